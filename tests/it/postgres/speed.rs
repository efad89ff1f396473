//! How quickly rows arrive, against `psql \copy` of the same rows in the same minute.

use std::{fmt::Write, process::Command, time::Duration};

use arrow_array::RecordBatch;
use tokio::time::Instant;
use weir::write::{Disposition, Target, postgres::Postgres};

use crate::support::{
    postgres::Database,
    target_contract::{people, table},
};

const ROWS: i64 = 50_000;
/// Rows of a batch, as the engine hands them over: about a mebibyte.
const BATCH: usize = 256;

/// Run with `cargo test --release --test it speed -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures; needs a release build and a quiet machine"]
async fn loading_is_as_quick_as_psql() {
    let database = Database::new().await;
    let rows: Vec<(i64, String)> = (0..ROWS).map(|id| (id, body(id))).collect();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let mut text = String::new();
    for (id, body) in &rows {
        writeln!(text, "{id}\t{body}").unwrap();
    }
    std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    let table = table("loaded", Disposition::Replace);
    let batches: Vec<RecordBatch> = rows
        .chunks(BATCH)
        .map(|rows| {
            let rows: Vec<(i64, &str)> =
                rows.iter().map(|(id, body)| (*id, body.as_str())).collect();
            people(&table, &rows)
        })
        .collect();
    database.execute("CREATE TABLE copied (id bigint PRIMARY KEY, name text)").await;
    let target = Postgres::new(database.options());
    let mut best = [Duration::MAX; 2];
    for _ in 0..5 {
        database.execute("TRUNCATE copied; CHECKPOINT").await;
        best[0] = best[0].min(psql(&database.url(), file.path().to_str().unwrap()));
        database.execute("CHECKPOINT").await;
        let start = Instant::now();
        let mut writer = target.open(&table, None).await.unwrap().unwrap();
        for batch in &batches {
            writer.write(batch.clone()).await.unwrap();
        }
        writer.commit(&crate::support::target_contract::SOME, &[]).await.unwrap();
        best[1] = best[1].min(start.elapsed());
    }
    let [theirs, ours] = best.map(|time| time.as_secs_f64());
    let sizes = "SELECT pg_table_size('copied') || ' and ' || pg_table_size('loaded')";
    let sizes = database.text(sizes).await;
    println!("psql \\copy {theirs:.3} s, weir {ours:.3} s: {:.2}; bytes {sizes}", ours / theirs);
    assert!(ours <= theirs * 1.3, "weir takes {:.2} times as long", ours / theirs);
}

/// Four kilobytes that compress as prose in a wiki does.
fn body(seed: i64) -> String {
    let mut state = seed.unsigned_abs().wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut body = String::with_capacity(4096);
    while body.len() < 4090 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        write!(body, "<p>word{} ", state % 5000).unwrap();
    }
    body.truncate(4096);
    body
}

/// Seconds that `psql \copy` takes, with the compression that weir asks for.
fn psql(url: &str, file: &str) -> Duration {
    let start = Instant::now();
    let status = Command::new("psql")
        .args([url, "-q", "-v", "ON_ERROR_STOP=1", "-c", &format!("\\copy copied FROM '{file}'")])
        .env("PGOPTIONS", "-c default_toast_compression=lz4")
        .status()
        .unwrap();
    assert!(status.success());
    start.elapsed()
}
