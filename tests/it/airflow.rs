//! The example for Airflow, run with an Airflow and a weir that are only as much as it needs.

use std::{os::unix::fs::PermissionsExt, process::Command};

use crate::support::user::{User, ended, repository};

/// As much of Airflow 3 as the example uses.
const SDK: &str = "
class BaseHook:
    @staticmethod
    def get_connection(name):
        class Connection:
            host, login, password = 'acme.test', 'ann', 's3cret'
            def get_uri(self):
                return 'postgresql+psycopg2://ann@db.test/wh'
        return Connection()

def task(function):
    return function

def dag(**settings):
    return lambda function: function
";

const EXCEPTIONS: &str = "
class AirflowFailException(Exception): pass
class AirflowSkipException(Exception): pass
";

/// A weir that ends with the code that it is told.
const WEIR: &str = "#!/bin/sh
[ \"$WAREHOUSE\" = postgres://ann@db.test/wh ] && [ \"$ATLASSIAN_API_TOKEN\" = s3cret ] || exit 99
exit \"$CODE\"
";

#[test]
fn each_exit_code_is_treated_as_it_should_be() {
    let user = User::new();
    for folder in ["airflow", "airflow/sdk", "bin"] {
        std::fs::create_dir(user.path(folder)).unwrap();
    }
    user.write("airflow/__init__.py", "");
    user.write("airflow/sdk/__init__.py", SDK);
    user.write("airflow/sdk/exceptions.py", EXCEPTIONS);
    user.write("bin/weir", WEIR);
    std::fs::set_permissions(user.path("bin/weir"), PermissionsExt::from_mode(0o755)).unwrap();
    let table = [
        (0, "done"),
        (1, "RuntimeError"),
        (2, "AirflowFailException"),
        (3, "done"),
        (4, "AirflowSkipException"),
        (75, "AirflowSkipException"),
        (130, "RuntimeError"),
        (143, "RuntimeError"),
    ];
    for (code, outcome) in table {
        let mut python = Command::new("python3");
        python.arg("-B").arg(repository("examples/airflow/weir_confluence.py"));
        python.current_dir(user.folder.path()).env("PYTHONPATH", user.folder.path());
        python.env("CODE", code.to_string());
        let mut folders = vec![user.path("bin")];
        folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
        python.env("PATH", std::env::join_paths(folders).unwrap());
        let output = python.output().unwrap();
        let (_, err) = ended(&output, i32::from(outcome != "done"));
        assert!(outcome == "done" || err.contains(outcome), "{code}: {err}");
    }
}
