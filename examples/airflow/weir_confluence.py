"""Runs weir every hour; weir's exit code determines whether the task succeeds, retries, skips or fails.

Put this file into the DAGs folder and `weir` on the workers' PATH, and set `WEIR_REPLICATION` to the path of
the replication. The Airflow connections `weir_confluence` (host: acme.atlassian.net, login: the account's
email, password: the API token) and `weir_warehouse` (a Postgres connection) contain the credentials. The DAG
passes them to weir as environment variables, so that they appear in no log.

A retry resumes a failed or killed run where it stopped, so it repeats few requests. Refused slices are in the
table `_weir_errors`; `weir sync retry-failed` requests them again.
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
    """Runs weir and returns its exit code. Sends it SIGTERM when Airflow ends the task."""
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
    """Ends the task according to the exit code."""
    if code == DONE:
        return
    if code == DONE_WITH_ERRORS:
        print("weir: done, but some slices were refused; see the log above and _weir_errors")
        return
    if code == BUSY:
        raise AirflowSkipException("another run of this replication is in progress")
    if code == PAUSED:
        raise AirflowSkipException("weir paused: the points budget is spent; the next run resumes")
    if code == WRONG_INPUT:
        raise AirflowFailException("wrong input; a retry does not help")
    if code in INTERRUPTED:
        raise RuntimeError("weir was interrupted; a retry resumes the run")
    raise RuntimeError(f"weir failed with exit code {code}; a retry resumes the run")


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
