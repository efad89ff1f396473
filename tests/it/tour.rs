//! The transcripts of the documentation: their commands run in order, as written, and print what the page shows.
//!
//! Blocks marked `console` are transcripts: lines that begin with `$ ` are commands, the others are their output.
//! Numbers, times and sizes may differ, and so may the width of a table's columns. With `UPDATE_DOCS=1` the tests
//! write what the commands print into the pages.
//!
//! A command that starts with `weir sim` runs until the next such command, or the end of the tour. A command whose
//! output begins with `^C` is interrupted once the streams that the page shows as `done` are done.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::support::{
    book::{UPDATE, root, updates},
    postgres::Database,
};

/// The ports and the database that the pages use.
const PORTS: [&str; 2] = ["8089", "8090"];
const DATABASE: &str = "postgres://me@localhost/warehouse";

/// A site of the pages, which a simulated one stands for.
const SITE: &str = "domain=acme.atlassian.net";

/// Longest time that a command may take.
const PATIENCE: Duration = Duration::from_mins(3);

#[tokio::test(flavor = "multi_thread")]
async fn the_tutorial() {
    let pages = ["simulator", "real-site", "postgres", "incremental"];
    let pages = pages.map(|page| format!("docs/src/tutorial/{page}.md"));
    let database = Database::new().await;
    let url = database.url();
    let told = tokio::task::spawn_blocking(move || Tour::new(&url).take(&pages)).await;
    told.unwrap();
    drop(database);
}

#[test]
fn the_example_spec() {
    Tour::new("").take(&["docs/src/howto/own-spec.md".to_owned()]);
}

#[test]
fn the_guides() {
    for guide in ["budgets", "recovery"] {
        Tour::new("").take(&[format!("docs/src/howto/{guide}.md")]);
    }
}

#[test]
fn the_demo_of_the_readme() {
    let tour = Tour::new("");
    let from = root().join("replications");
    fs::create_dir(tour.folder.path().join("replications")).unwrap();
    fs::copy(from.join("demo.yaml"), tour.folder.path().join("replications/demo.yaml")).unwrap();
    tour.take(&["README.md".to_owned()]);
}

/// A command and what the page shows of its output.
#[derive(Debug)]
struct Step {
    command: String,
    output: Vec<String>,
    /// Lines of the page that hold the output, from the first to before the last.
    lines: (usize, usize),
}

/// A reader in a fresh folder.
struct Tour {
    folder: TempDir,
    /// Ports of this test, in the place of [`PORTS`].
    ports: [String; 2],
    database: String,
    simulator: Option<Child>,
    /// Process groups of commands that go on in the background.
    background: Vec<u32>,
}

impl Tour {
    fn new(database: &str) -> Self {
        // All are open at once, so that they differ.
        let listeners = PORTS.map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        let ports = listeners.map(|one| one.local_addr().unwrap().port().to_string());
        let folder = tempfile::tempdir().unwrap();
        Self {
            folder,
            ports,
            database: database.to_owned(),
            simulator: None,
            background: Vec::new(),
        }
    }

    fn take(mut self, pages: &[String]) {
        let mut wrong = Vec::new();
        for page in pages {
            let path = root().join(page);
            let text = fs::read_to_string(&path).unwrap();
            let mut told = Vec::new();
            for step in steps(&text) {
                let printed = self.run(&step);
                if shape(&printed) != shape(&step.output) {
                    let (shown, printed) = (step.output.join("\n"), printed.join("\n"));
                    wrong.push(format!(
                        "{page}: $ {}\n--- shows\n{shown}\n--- prints\n{printed}",
                        step.command
                    ));
                }
                told.push((step, printed));
            }
            if updates() {
                write(&path, &text, &told);
            }
        }
        assert!(
            wrong.is_empty() || updates(),
            "{}\n({UPDATE}=1 writes the pages)",
            wrong.join("\n\n")
        );
    }

    /// Runs a command, and returns what a terminal shows of it, in the words of the page.
    #[expect(clippy::disallowed_methods, reason = "the commands run in real time")]
    fn run(&mut self, step: &Step) -> Vec<String> {
        let text = self.here(&step.command);
        if step.command.starts_with("weir sim ") {
            return self.simulate(&text, step.output.len().max(2));
        }
        let script = format!("exec 2>&1\n{text}");
        let mut child = self.shell(&script);
        if step.command.ends_with('&') {
            self.background.push(child.id());
            // The program in the background needs a moment before it answers.
            thread::sleep(Duration::from_secs(2));
        }
        let mut stdin = child.stdin.take().unwrap();
        // The token that a command asks for; others do not read it.
        stdin.write_all(b"s3cret-token\n").ok();
        drop(stdin);
        let (sender, lines) = mpsc::channel();
        let stdout = child.stdout.take().unwrap();
        thread::spawn(move || {
            let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
            lines.all(|line| sender.send(line).is_ok())
        });
        let interrupted = step.output.first().is_some_and(|line| line.starts_with("^C"));
        let mut awaited = awaited(&step.output);
        let (mut printed, begun) = (Vec::new(), Instant::now());
        loop {
            match lines.recv_timeout(Duration::from_millis(100)) {
                Ok(line) => {
                    awaited.retain(|name| !line.contains(&format!(" {name}: done")));
                    printed.push(line);
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => {}
            }
            if interrupted && awaited.is_empty() {
                awaited.push("the end".to_owned());
                thread::sleep(Duration::from_secs(1));
                let group = format!("-{}", child.id());
                Command::new("kill").args(["-s", "INT", "--", &group]).status().unwrap();
            }
            if begun.elapsed() > PATIENCE {
                child.kill().unwrap();
                panic!("`{}` takes too long: {}", step.command, printed.join("\n"));
            }
        }
        child.wait().unwrap();
        let mut shown: Vec<String> = printed
            .iter()
            .filter_map(|line| on_a_terminal(line, interrupted))
            .map(|line| self.there(&line))
            .collect();
        if interrupted && let Some(first) = shown.first_mut() {
            first.insert_str(0, "^C");
        }
        shown
    }

    fn simulate(&mut self, text: &str, most: usize) -> Vec<String> {
        self.stop();
        let mut child = self.shell(&format!("exec {text} --listen 127.0.0.1:{}", self.ports[0]));
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let lines: Vec<String> = lines.take(most).map(|line| self.there(&line.unwrap())).collect();
        self.simulator = Some(child);
        lines
    }

    fn shell(&self, script: &str) -> Child {
        use std::os::unix::process::CommandExt;
        let folder = self.folder.path();
        let program = Path::new(env!("CARGO_BIN_EXE_weir")).parent().unwrap().display();
        Command::new("sh")
            .args(["-c", script])
            .current_dir(folder)
            .env_clear()
            .env("HOME", folder)
            .env("PATH", format!("{program}:/usr/bin:/bin:/usr/local/bin"))
            .env("LC_ALL", "C.UTF-8")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// A command of the page, with the ports, the site and the database of this test.
    fn here(&self, command: &str) -> String {
        let site = format!("{SITE} site_url=http://127.0.0.1:{}", PORTS[0]);
        let text = command.replace(SITE, &site).replace(DATABASE, &self.database);
        PORTS.iter().zip(&self.ports).fold(text, |text, (there, here)| text.replace(there, here))
    }

    /// What was printed, with the ports, the folder, the site and the database of the page.
    fn there(&self, line: &str) -> String {
        let line = line.replace(&self.folder.path().display().to_string(), "~");
        let ports = PORTS.iter().zip(&self.ports);
        let mut line = ports.fold(line, |line, (there, here)| line.replace(here, there));
        // The simulated site stands for one that has a name.
        if line.starts_with("CONFLUENCE") {
            let simulated = format!("http://127.0.0.1:{}", PORTS[0]);
            line = line.replace(&format!("at {simulated}"), "at acme.atlassian.net");
            line = line.replace(&simulated, "https://acme.atlassian.net");
        }
        let place = |url: &str| {
            url.split('@')
                .nth(1)?
                .split_once('/')
                .map(|(server, name)| (server.to_owned(), name.to_owned()))
        };
        let Some((server, name)) = place(&self.database) else { return line };
        line.replace(&server, "localhost").replace(&name, "warehouse")
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.simulator.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Tour {
    fn drop(&mut self) {
        self.stop();
        for group in &self.background {
            Command::new("kill").args(["--", &format!("-{group}")]).status().ok();
        }
    }
}

/// What a terminal shows of a line once the command has ended: lines with a time tell of a run while it goes, and
/// are redrawn there. Notes stay, and so does the answer to Ctrl-C.
fn on_a_terminal(line: &str, interrupted: bool) -> Option<String> {
    let time = line.get(..20).filter(|time| time.starts_with("20") && time.ends_with('Z'));
    let Some(time) = time else { return Some(line.to_owned()) };
    let rest = line.strip_prefix(time).unwrap_or_default().trim_start();
    (interrupted && rest.starts_with("note: stopping")).then(|| rest.to_owned())
}

/// Streams that the page shows as done.
fn awaited(output: &[String]) -> Vec<String> {
    let rows = output.iter().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let done = rows.filter(|words| words.get(1) == Some(&"done") && words.len() > 4);
    done.map(|words| words[0].to_owned()).collect()
}

/// The commands of a page's transcripts.
fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    // The word that ends a here-document, if one is open.
    let (mut inside, mut open, mut end) = (false, false, None::<String>);
    for (number, line) in text.lines().enumerate() {
        if line.starts_with("```") {
            inside = !inside && line == "```console";
            open = false;
            continue;
        }
        if !inside {
            continue;
        }
        if let Some(word) = &end {
            let step = steps.last_mut().unwrap();
            step.command.push('\n');
            step.command.push_str(line);
            step.lines = (number + 1, number + 1);
            if line == word {
                end = None;
            }
        } else if open {
            let step = steps.last_mut().unwrap();
            step.command.push('\n');
            step.command.push_str(line);
            step.lines = (number + 1, number + 1);
            open = line.ends_with('\\');
        } else if let Some(command) = line.strip_prefix("$ ") {
            let word = command.split_once("<<'").and_then(|(_, rest)| rest.split_once('\''));
            end = word.map(|(word, _)| word.to_owned());
            open = command.ends_with('\\');
            let lines = (number + 1, number + 1);
            steps.push(Step { command: command.to_owned(), output: Vec::new(), lines });
        } else {
            let step =
                steps.last_mut().unwrap_or_else(|| panic!("output without a command: {line}"));
            step.output.push(line.to_owned());
            step.lines.1 = number + 1;
        }
    }
    steps
}

/// What must be alike of two outputs: words that hold digits count as numbers, blanks as one.
fn shape(output: &[String]) -> Vec<String> {
    let word = |word: &str| {
        let has_digit = word.chars().any(|sign| sign.is_ascii_digit());
        if has_digit { "#".to_owned() } else { word.to_owned() }
    };
    let line = |line: &String| {
        let mut words: Vec<String> = line.split_whitespace().map(word).collect();
        // How many columns of figures a row has depends on how fast it was.
        words.dedup_by(|next, one| next == "#" && one == "#");
        words.join(" ")
    };
    let mut lines: Vec<String> = output.iter().map(line).collect();
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines
}

/// Writes a page whose transcripts show what was printed.
fn write(path: &Path, text: &str, told: &[(Step, Vec<String>)]) {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (step, printed) in told.iter().rev() {
        // What differs only in figures stays: a page need not change with each run.
        if shape(printed) != shape(&step.output) {
            lines.splice(step.lines.0..step.lines.1, printed.iter().cloned());
        }
    }
    let mut text = lines.join("\n");
    text.push('\n');
    let mut file = fs::File::create(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}
