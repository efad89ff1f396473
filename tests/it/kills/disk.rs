//! A disk that is full.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use weir_sim::{Churn, Options, STREAMS};

use crate::support::process::{Reading, Workplace, parquet};

/// Makes a namespace with a small disk, says so, and lives until its standard input ends.
const HOLD: &str = "mount -t tmpfs -o size=\"$1\" weir \"$2\" && echo ready && cat >/dev/null";

/// A small disk that only processes within its namespace see.
struct Disk {
    holder: Child,
    folder: PathBuf,
}

impl Disk {
    /// Mounts it on a folder; needs no privilege where users may make namespaces.
    fn mount(folder: &Path, kib: u64) -> Self {
        let mut holder = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", HOLD, "weir"])
            .args([&format!("{kib}k"), folder.to_str().unwrap()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if line.trim() != "ready" {
            let output = holder.wait_with_output().unwrap();
            panic!(
                "a small disk cannot be mounted: {}\nthe test needs `unshare` and user namespaces \
                 (sysctl kernel.unprivileged_userns_clone=1, \
                 kernel.apparmor_restrict_unprivileged_userns=0; for a container --privileged)",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Self { holder, folder: folder.to_owned() }
    }

    /// What to put before a command that is to see it.
    fn within(&self) -> Vec<String> {
        let process = self.holder.id().to_string();
        let words =
            ["nsenter", "--target", &process, "--user", "--preserve-credentials", "--mount"];
        words.map(str::to_owned).to_vec()
    }

    /// Gives it another size.
    fn resize(&self, kib: u64) {
        let mut command = Command::new("nsenter");
        command.args(&self.within()[1..]).args(["mount", "-o", &format!("remount,size={kib}k")]);
        let done = command.arg(&self.folder).status().unwrap();
        assert!(done.success(), "the disk cannot be resized to {kib} KiB");
    }

    /// Its content, as this process sees it.
    fn content(&self) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        root.join(self.folder.strip_prefix("/").unwrap())
    }

    /// Kibibytes that are taken.
    fn used(&self) -> u64 {
        let mut command = Command::new("nsenter");
        command.args(&self.within()[1..]).args(["df", "--output=used"]).arg(&self.folder);
        let said = String::from_utf8(command.output().unwrap().stdout).unwrap();
        said.lines().nth(1).unwrap().trim().parse().unwrap()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        self.holder.wait().ok();
    }
}

/// The visible files, by name.
fn visible(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let files = entries.map(|entry| (entry.file_name().into_string().unwrap(), entry.path()));
    let files = files.filter(|(name, _)| !name.starts_with('.'));
    files.map(|(name, path)| (name, fs::read(path).unwrap())).collect()
}

/// Wherever the disk becomes full, the run says so, and what was visible is as it was or new, and
/// whole. With more room the next run goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_fails_a_run_and_with_room_the_next_one_goes_on() {
    let tenant = Options { seed: 4, heavy_parents: 0, body_bytes: 8192, ..Options::default() };
    let mut work = Workplace::new(tenant, None).await;
    work.replicate("{stream_name}.parquet", super::AT_ONCE, Reading::Everything);
    fs::create_dir(work.path("out")).unwrap();
    let mut size = 1536;
    let disk = Disk::mount(&work.path("out"), size);
    work.within = disk.within();
    let folder = disk.content();
    let mut before = visible(&folder);
    for round in 0..2 {
        let mut failed = 0;
        loop {
            let (code, said) = work.start().end().await;
            let now = visible(&folder);
            if code == Some(0) {
                break;
            }
            failed += 1;
            assert_eq!(code, Some(1), "with {size} KiB: {said}");
            assert!(said.contains("No space left on device"), "with {size} KiB: {said}");
            assert!(said.contains("free some space and run again"), "with {size} KiB: {said}");
            for stream in STREAMS {
                let name = format!("{stream}.parquet");
                if now.get(&name) != before.get(&name) {
                    parquet(&folder.join(&name)).unwrap();
                }
            }
            before = now;
            size += 256;
            disk.resize(size);
        }
        assert!(failed > 0, "the disk was never full");
        let wrong = work.faults(Workplace::in_files(&folder));
        assert!(wrong.is_empty(), "{wrong:#?}");
        work.simulator.churn(round, &Churn::of(40));
        before = visible(&folder);
        size = disk.used() + 128;
        disk.resize(size);
    }
}
