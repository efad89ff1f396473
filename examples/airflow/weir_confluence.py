"""Runs weir every hour and lets Airflow retry, warn or fail by weir's exit code.

Put this file into the DAGs folder, `weir` on the workers' PATH, and the replication where
`REPLICATION` says. The Airflow connections `weir_confluence` (host: acme.atlassian.net, login: the
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
    from airflow.sdk import dag, task
    from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
except ImportError:  # Airflow 2.9 and later
    from airflow.decorators import dag, task
    from airflow.exceptions import AirflowFailException, AirflowSkipException

REPLICATION = os.environ.get("WEIR_REPLICATION", "/opt/weir/confluence_to_postgres.yaml")

WRONG_INPUT = 2
DONE_WITH_ERRORS = 3
PAUSED = 75


def connections() -> dict[str, str]:
    """Environment variables for weir, from Airflow's connections."""
    try:
        from airflow.sdk import BaseHook
    except ImportError:
        from airflow.hooks.base import BaseHook
    wiki = BaseHook.get_connection("weir_confluence")
    warehouse = BaseHook.get_connection("weir_warehouse")
    return {
        "CONFLUENCE": "{type: api, spec: confluence}",
        "CONFLUENCE_DOMAIN": wiki.host,
        "ATLASSIAN_EMAIL": wiki.login,
        "ATLASSIAN_API_TOKEN": wiki.password,
        "WAREHOUSE": warehouse.get_uri().replace("postgres+psycopg2://", "postgres://"),
    }


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
        command = ["weir", "sync", "run", REPLICATION, "--log-format", "json"]
        ended = subprocess.run(command, env={**os.environ, **connections()}, check=False)
        if ended.returncode == DONE_WITH_ERRORS:
            print("weir: done, but some slices were refused; see the log above")
        elif ended.returncode == PAUSED:
            raise AirflowSkipException("weir paused; the next run goes on")
        elif ended.returncode == WRONG_INPUT:
            raise AirflowFailException("weir cannot run this as it is; a retry would not help")
        elif ended.returncode != 0:
            raise RuntimeError(f"weir ended with exit code {ended.returncode}")

    sync()


weir_confluence()
