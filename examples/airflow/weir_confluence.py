"""Runs weir every hour and lets Airflow retry, skip or fail by weir's exit code.

Put this file into the DAGs folder, `weir` on the workers' PATH, and the replication where
`WEIR_REPLICATION` says. The Airflow connections `weir_confluence` (host: acme.atlassian.net, login: the
account's email, password: the API token) and `weir_warehouse` (a Postgres connection) hold the
credentials; they reach weir as environment variables and appear in no log.

A run that failed or was killed goes on where it stopped, so that a retry repeats little. Slices that the
API refused are in the table `_weir_errors`; `weir sync retry-failed` asks for them again.
"""

from __future__ import annotations

import os
import subprocess
from datetime import datetime, timedelta

try:  # Airflow 3
    from airflow.sdk import BaseHook, dag, task
    from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
except ImportError:  # Airflow 2.9 and later
    from airflow.decorators import dag, task
    from airflow.exceptions import AirflowFailException, AirflowSkipException
    from airflow.hooks.base import BaseHook

REPLICATION = os.environ.get("WEIR_REPLICATION", "/opt/weir/confluence_to_postgres.yaml")

DONE = 0
WRONG_INPUT = 2
DONE_WITH_ERRORS = 3
BUSY = 4
PAUSED = 75
INTERRUPTED = (130, 143)

# Seconds in which weir saves what it has read when Airflow ends the task.
GRACE = 60


def connections() -> dict[str, str]:
    """Environment variables for weir, from Airflow's connections."""
    wiki = BaseHook.get_connection("weir_confluence")
    warehouse = BaseHook.get_connection("weir_warehouse")
    return {
        "CONFLUENCE": "{type: api, spec: confluence}",
        "CONFLUENCE_DOMAIN": wiki.host,
        "ATLASSIAN_EMAIL": wiki.login,
        "ATLASSIAN_API_TOKEN": wiki.password,
        "WAREHOUSE": warehouse.get_uri().replace("postgresql+psycopg2://", "postgres://"),
    }


def run(command: list[str]) -> int:
    """Runs weir and returns its exit code. Ends it gently when Airflow ends the task."""
    process = subprocess.Popen(command, env={**os.environ, **connections()})
    try:
        return process.wait()
    except BaseException:
        process.terminate()
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
        raise


def conclude(code: int) -> None:
    """Tells Airflow how the run ended."""
    if code == DONE:
        return
    if code == DONE_WITH_ERRORS:
        print("weir: done, but some slices were refused; see the log above and _weir_errors")
        return
    if code == BUSY:
        raise AirflowSkipException("another run of this replication is under way")
    if code == PAUSED:
        raise AirflowSkipException("weir paused: the points of this hour are spent; the next run goes on")
    if code == WRONG_INPUT:
        raise AirflowFailException("weir cannot run this as it is; a retry would not help")
    if code in INTERRUPTED:
        raise RuntimeError("weir was interrupted; a retry goes on where it stopped")
    raise RuntimeError(f"weir failed with exit code {code}; a retry goes on where it stopped")


@dag(
    schedule="@hourly",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5)},
)
def weir_confluence():
    @task
    def sync() -> None:
        conclude(run(["weir", "sync", "run", REPLICATION, "--log-format", "json"]))

    sync()


weir_confluence()
