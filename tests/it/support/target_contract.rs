//! What every target must do, whatever it is: run by each target's own tests.

#![expect(clippy::future_not_send, reason = "each test awaits the contract where it is")]

use std::{
    ops::Range,
    sync::atomic::{AtomicU32, Ordering},
};

use serde_json::json;
use weir::{
    error::Kind,
    report::NoticeKind,
    schema::{CHANGE, Column, ColumnType, DELETED_AT, SYNCED_AT, TableSchema},
    state::{Change, Holder},
    write::{CommitInfo, Deletable, Deletes, Disposition, SliceNumber, Table, Target, Writer},
};

use super::rows::{Row, batch, normal, rows, staged};

/// A target under test.
pub(crate) struct Subject<'a, N, R> {
    pub(crate) target: &'a dyn Target,
    /// The `object` of a table of this short name.
    pub(crate) object: N,
    /// The rows that a reader of the target sees; `None` when there is no such table.
    pub(crate) read: R,
}

/// Runs the whole contract, each clause on a table of its own.
pub(crate) async fn check<N, R>(subject: Subject<'_, N, R>)
where
    N: Fn(&str) -> String,
    R: AsyncFn(&Table) -> Option<Vec<Row>>,
{
    subject.target.check().await.unwrap();
    subject.rows_are_seen_once_committed().await;
    subject.a_dropped_writer_writes_nothing().await;
    for disposition in [Disposition::Replace, Disposition::Truncate, Disposition::Append] {
        subject.without_a_key_all_rows_stay(disposition).await;
    }
    for disposition in [Disposition::Replace, Disposition::Truncate] {
        subject.new_rows_take_the_place_of_old_ones(disposition).await;
        subject.a_commit_without_rows_empties_the_table(disposition).await;
    }
    subject.appended_rows_are_added().await;
    subject.merged_rows_take_the_place_of_their_key().await;
    for disposition in
        [Disposition::Replace, Disposition::Truncate, Disposition::Append, Disposition::Merge]
    {
        subject.of_the_rows_with_one_key_the_same_one_stays(disposition).await;
        subject.a_strict_table_refuses_rows_that_collide(disposition).await;
    }
    subject.a_run_goes_on_from_its_checkpoint().await;
    subject.void_slices_leave_nothing().await;
    subject.what_is_not_seen_is_gone(Deletes::Remove).await;
    subject.what_is_not_seen_is_gone(Deletes::Mark).await;
    subject.what_is_not_seen_is_gone(Deletes::Ignore).await;
    subject.slices_replace_the_rows_of_their_parents().await;
    subject.a_parent_keeps_its_rows_unless_all_its_slices_were_read().await;
    subject.a_table_is_defined_without_rows().await;
    subject.a_table_that_is_not_there_is_missed().await;
    subject.state_is_saved_with_the_rows().await;
    subject.all_who_save_a_state_know_what_the_others_saved().await;
    subject.a_replication_is_locked_by_one().await;
    subject.every_value_comes_back().await;
    subject.many_batches_arrive_whole().await;
    subject.tables_are_written_side_by_side().await;
}

impl<N, R> Subject<'_, N, R>
where
    N: Fn(&str) -> String,
    R: AsyncFn(&Table) -> Option<Vec<Row>>,
{
    async fn rows_are_seen_once_committed(&self) {
        let table = self.table("seen", Disposition::Replace);
        let mut writer = self.open(&table).await;
        writer.write(people(&table, &[(1, "Ann"), (2, "Bo")])).await.unwrap();
        assert!(self.names(&table).await.is_empty(), "rows are seen before their commit");
        let committed = writer.commit(&SOME, &[]).await.unwrap();
        assert_eq!(committed.rows, 2);
        assert!(!committed.object.is_empty());
        assert_eq!(self.names(&table).await, ["1 Ann", "2 Bo"]);
    }

    async fn a_dropped_writer_writes_nothing(&self) {
        for disposition in [Disposition::Replace, Disposition::Truncate, Disposition::Append] {
            let name = format!("dropped_{disposition:?}").to_lowercase();
            let table = self.table(&name, disposition);
            self.load(&table, &[(1, "Ann")]).await;
            let mut writer = self.open(&table).await;
            for round in 0..20 {
                writer.write(wide(&table, round * 500..(round + 1) * 500)).await.unwrap();
            }
            drop(writer);
            assert_eq!(self.names(&table).await, ["1 Ann"], "{disposition:?}");
            drop(self.open(&table).await);
            assert_eq!(self.names(&table).await, ["1 Ann"], "{disposition:?}");
        }
    }

    async fn new_rows_take_the_place_of_old_ones(&self, disposition: Disposition) {
        let table = self.table(&format!("{disposition:?}").to_lowercase(), disposition);
        self.load(&table, &[(1, "Ann"), (2, "Bo")]).await;
        self.load(&table, &[(2, "Bob"), (3, "Cy")]).await;
        assert_eq!(self.names(&table).await, ["2 Bob", "3 Cy"], "{disposition:?}");
    }

    async fn a_commit_without_rows_empties_the_table(&self, disposition: Disposition) {
        let table = self.table(&format!("empty_{disposition:?}").to_lowercase(), disposition);
        self.load(&table, &[(1, "Ann")]).await;
        self.load(&table, &[]).await;
        assert!(self.names(&table).await.is_empty(), "{disposition:?}");
        let new = self.table(&format!("never_{disposition:?}").to_lowercase(), disposition);
        self.load(&new, &[]).await;
        assert!(self.names(&new).await.is_empty(), "{disposition:?}");
    }

    async fn appended_rows_are_added(&self) {
        let table = self.table("appended", Disposition::Append);
        self.load(&table, &[(1, "Ann")]).await;
        self.load(&table, &[]).await;
        self.load(&table, &[(1, "Ann"), (2, "Bo")]).await;
        assert_eq!(self.names(&table).await, ["1 Ann", "1 Ann", "2 Bo"]);
    }

    async fn merged_rows_take_the_place_of_their_key(&self) {
        let table = self.table("merged", Disposition::Merge);
        self.load(&table, &[(1, "Ann"), (2, "Bo")]).await;
        self.load(&table, &[(2, "Ben"), (3, "Cy"), (2, "Bob")]).await;
        self.load(&table, &[]).await;
        assert_eq!(self.names(&table).await, ["1 Ann", "2 Bob", "3 Cy"]);
        let mut keyless = self.table("keyless", Disposition::Merge);
        keyless.schema.key.clear();
        assert!(self.target.open(&keyless, None).await.is_err(), "a merge needs a key");
    }

    async fn of_the_rows_with_one_key_the_same_one_stays(&self, disposition: Disposition) {
        let name = format!("one_key_{disposition:?}").to_lowercase();
        let mut table = of_new_run(&self.table(&name, disposition));
        table.schema.columns.push(Column::new("version", ColumnType::Int));
        table.version = Some("version".to_owned());
        let stage = async |writer: &mut Box<dyn Writer>, slice, people: serde_json::Value| {
            let row = |row: &serde_json::Value| {
                rows(json!([{ "id": row[0], "name": row[1], "version": row[2] }])).remove(0)
            };
            let people: Vec<Row> = people.as_array().unwrap().iter().map(row).collect();
            writer.write(staged(&table.schema, &people, slice, None)).await.unwrap();
        };
        let slice = |from, attempt| SliceNumber { request: 1, from, attempt, aside: false };
        let [first, aside] = slice(1, 0).both();
        let second = slice(2, 0).number();
        let mut writer = self.target.open(&table, None).await.unwrap().unwrap();
        // The second slice was faster.
        stage(&mut writer, second, json!([[1, "of the second"], [2, "same"]])).await;
        stage(&mut writer, slice(3, 0).number(), json!([[5, "void"], [1, "void"]])).await;
        writer.checkpoint(&[]).await.unwrap();
        let count = writer.staged();
        drop(writer);
        let mut writer = self.target.open(&table, Some(count)).await.unwrap().unwrap();
        let news = json!([[1, "of the first"], [2, "same"], [3, "same"], [4, "newer", 2]]);
        stage(&mut writer, first, news).await;
        stage(&mut writer, first, json!([[3, "same"], [4, "older", 1], [6, "one"]])).await;
        stage(&mut writer, aside, json!([[3, "by another request"]])).await;
        stage(&mut writer, first, json!([[6, "other"]])).await;
        stage(&mut writer, slice(3, 1).number(), json!([[5, "read anew"]])).await;
        let void = slice(3, 0).both().to_vec();
        let committed =
            writer.commit(&CommitInfo { discarded_slices: void, ..SOME }, &[]).await.unwrap();
        let expected = [
            "1 of the second",
            "2 same",
            "3 by another request",
            "4 newer",
            "5 read anew",
            "6 other",
        ];
        assert_eq!(self.names(&table).await, expected, "{disposition:?}");
        assert_eq!((committed.rows, committed.repeated), (6, 2), "{disposition:?}");
        let notices = committed.notices;
        assert_eq!(notices.len(), 1, "{disposition:?}: {notices:?}");
        assert_eq!((notices[0].kind, notices[0].count), (NoticeKind::KeyCollision, 2));
        let said = notices[0].to_string();
        assert!(said.contains("`id=1`") && said.contains("`name`"), "{said}");
        assert!(!said.contains("`version`") && said.contains("`people`"), "{said}");
    }

    async fn without_a_key_all_rows_stay(&self, disposition: Disposition) {
        let name = format!("no_key_{disposition:?}").to_lowercase();
        let mut table = Table { strict: true, ..self.table(&name, disposition) };
        table.schema.key.clear();
        self.load(&table, &[(1, "Ann"), (1, "Ann"), (1, "Bo")]).await;
        assert_eq!(self.names(&table).await, ["1 Ann", "1 Ann", "1 Bo"], "{disposition:?}");
    }

    async fn a_strict_table_refuses_rows_that_collide(&self, disposition: Disposition) {
        let name = format!("strict_{disposition:?}").to_lowercase();
        let table = Table { strict: true, ..self.table(&name, disposition) };
        self.load(&table, &[(1, "Ann"), (2, "Bo"), (2, "Bo")]).await;
        let mut writer = self.open(&table).await;
        writer.write(people(&table, &[(3, "Cy"), (3, "Dee")])).await.unwrap();
        let error = writer.commit(&SOME, &[]).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Shape, "{disposition:?}: {error:?}");
        assert!(error.chain().contains("`id=3`"), "{}", error.chain());
        assert_eq!(self.names(&table).await, ["1 Ann", "2 Bo"], "{disposition:?}");
        drop(self.open(&table).await);
    }

    async fn a_run_goes_on_from_its_checkpoint(&self) {
        for disposition in [Disposition::Replace, Disposition::Merge, Disposition::Truncate] {
            let name = format!("resumed_{disposition:?}").to_lowercase();
            let table = of_new_run(&self.table(&name, disposition));
            load(self.target, &table, &[(9, "Old")]).await;
            let mut writer = self.target.open(&table, None).await.unwrap().unwrap();
            writer.write(people(&table, &[(1, "Ann"), (2, "Bo")])).await.unwrap();
            let staged = writer.staged();
            assert_eq!(staged, 2);
            writer.checkpoint(&[]).await.unwrap();
            writer.write(people(&table, &[(3, "Lost")])).await.unwrap();
            drop(writer);
            for _ in 0..2 {
                let writer = self.target.open(&table, Some(staged)).await.unwrap();
                assert_eq!(writer.unwrap().staged(), staged, "{disposition:?}");
            }
            let mut writer = self.target.open(&table, Some(staged)).await.unwrap().unwrap();
            writer.write(people(&table, &[(2, "Bob"), (4, "Dee")])).await.unwrap();
            assert_eq!(self.names(&table).await, ["9 Old"], "{disposition:?}");
            let committed = writer.commit(&SOME, &[]).await.unwrap();
            assert_eq!(committed.rows, 3, "{disposition:?}");
            let mut expected = vec!["1 Ann", "2 Bob", "4 Dee"];
            expected.extend((disposition == Disposition::Merge).then_some("9 Old"));
            assert_eq!(self.names(&table).await, expected, "{disposition:?}");
            let other = of_new_run(&table);
            assert!(
                self.target.open(&other, Some(1)).await.unwrap().is_none(),
                "nothing is staged"
            );
            let mut writer = self.target.open(&other, None).await.unwrap().unwrap();
            writer.write(people(&other, &[(5, "Eve")])).await.unwrap();
            writer.checkpoint(&[]).await.unwrap();
            drop(writer);
            let third = of_new_run(&table);
            assert!(self.target.open(&third, Some(1)).await.unwrap().is_none(), "another run's");
            self.target.open(&third, None).await.unwrap().unwrap().discard().await.unwrap();
            assert!(self.target.open(&other, Some(1)).await.unwrap().is_none(), "it is forgotten");
        }
    }

    async fn void_slices_leave_nothing(&self) {
        let table = of_new_run(&self.table("void", Disposition::Replace));
        let slice = |ids: &[(i64, &str)], slice| {
            let row =
                |(id, name): &(i64, &str)| rows(json!([{ "id": id, "name": name }])).remove(0);
            staged(&table.schema, &ids.iter().map(row).collect::<Vec<_>>(), slice, None)
        };
        let mut writer = self.target.open(&table, None).await.unwrap().unwrap();
        writer.write(slice(&[(1, "Ann"), (2, "Bo")], 7)).await.unwrap();
        writer.write(slice(&[(3, "Cy")], 8)).await.unwrap();
        writer.checkpoint(&[]).await.unwrap();
        writer.write(slice(&[(2, "Bob")], 70)).await.unwrap();
        writer.checkpoint(&[]).await.unwrap();
        let count = writer.staged();
        drop(writer);
        let mut writer = self.target.open(&table, Some(count)).await.unwrap().unwrap();
        writer.write(slice(&[(4, "Dee")], 9)).await.unwrap();
        let ending = CommitInfo { discarded_slices: vec![7, 8], ..SOME };
        writer.commit(&ending, &[]).await.unwrap();
        assert_eq!(self.names(&table).await, ["2 Bob", "4 Dee"]);
    }

    async fn what_is_not_seen_is_gone(&self, deletes: Deletes) {
        let name = format!("gone_{deletes:?}").to_lowercase();
        let mut table = Table { deletes, ..self.table(&name, Disposition::Merge) };
        table.place = vec!["place".to_owned()];
        let columns = &mut table.schema.columns;
        columns.push(Column::new("place", ColumnType::Text));
        columns.push(Column::new(SYNCED_AT, ColumnType::Text));
        if deletes == Deletes::Mark {
            columns.push(Column::new(DELETED_AT, ColumnType::Timestamp));
        }
        columns.push(Column::new(CHANGE, ColumnType::Text));
        let at = "2026-05-01T00:00:00Z".parse().unwrap();
        let all = CommitInfo { deletable: Deletable::Everything, at, discarded_slices: Vec::new() };
        self.merge(&table, json!([[1, "Ann", "a"], [2, "Bo", "a"], [3, "Cy", "a"]]), "1", &all)
            .await;
        let some =
            CommitInfo { deletable: Deletable::ReadParents, at, discarded_slices: Vec::new() };
        let news = json!([[1, "Ann", "a"], [2, "Bob", "a"], [5, "Eve", "b"]]);
        assert_eq!(self.merge(&table, news, "2", &some).await, 0, "{deletes:?}");
        assert_eq!(self.changes(&table).await, ["1 new 1", "2 updated 2", "3 new 1", "5 new 2"]);
        let deleted =
            self.merge(&table, json!([[1, "Ann", "z"], [5, "Eve", "b"]]), "3", &all).await;
        let (count, expected) = match deletes {
            Deletes::Mark => (2, vec!["1 moved 3", "2 deleted 2", "3 deleted 1", "5 new 2"]),
            Deletes::Remove => (2, vec!["1 moved 3", "5 new 2"]),
            Deletes::Ignore => (0, vec!["1 moved 3", "2 updated 2", "3 new 1", "5 new 2"]),
        };
        assert_eq!(
            (deleted, self.changes(&table).await),
            (count, expected.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()),
            "{deletes:?}"
        );
        if deletes == Deletes::Mark {
            let marked = async || {
                let rows = self.rows(&table).await;
                let marked = rows.iter().filter(|row| !row[DELETED_AT].is_null());
                let shown = marked.map(|row| format!("{} {}", row["id"], row[DELETED_AT]));
                shown.collect::<std::collections::BTreeSet<_>>().into_iter().collect::<Vec<_>>()
            };
            let time = "\"2026-05-01T00:00:00.000000Z\"";
            assert_eq!(marked().await, [format!("2 {time}"), format!("3 {time}")]);
            self.merge(&table, json!([[3, "Cy", "a"]]), "4", &some).await;
            assert_eq!(marked().await, [format!("2 {time}")], "a row that comes again is there");
        }
    }

    /// Merges rows of id, name and place; how many old rows were found gone.
    async fn merge(
        &self,
        table: &Table,
        news: serde_json::Value,
        stamp: &str,
        ending: &CommitInfo,
    ) -> u64 {
        let row = |row: &serde_json::Value| {
            let row = json!([{ "id": row[0], "name": row[1], "place": row[2], SYNCED_AT: stamp }]);
            rows(row).remove(0)
        };
        let news: Vec<Row> = news.as_array().unwrap().iter().map(row).collect();
        let mut writer = self.open(table).await;
        writer.write(batch(&table.schema, &news)).await.unwrap();
        writer.commit(ending, &[]).await.unwrap().deleted
    }

    /// `id change stamp` of every row, sorted.
    async fn changes(&self, table: &Table) -> Vec<String> {
        let text = |value: &serde_json::Value| value.as_str().unwrap_or("null").to_owned();
        let show =
            |row: &Row| format!("{} {} {}", row["id"], text(&row[CHANGE]), text(&row[SYNCED_AT]));
        let mut shown: Vec<String> = self.rows(table).await.iter().map(show).collect();
        shown.sort();
        shown
    }

    async fn slices_replace_the_rows_of_their_parents(&self) {
        let mut table = self.table("parents", Disposition::Merge);
        table.schema.columns.push(Column::new("parent", ColumnType::Text));
        table.replaces = Some("parent".to_owned());
        table.deletes = Deletes::Remove;
        let child = |id: i64, parent: &str| {
            rows(json!([{ "id": id, "name": parent, "parent": parent }])).remove(0)
        };
        let mark = |parent: &str, anew| {
            staged(&table.schema, &rows(json!([{ "parent": parent }])), 1, Some(anew))
        };
        let first: Vec<Row> =
            [(1, "a"), (2, "a"), (3, "b"), (4, "b"), (5, "c"), (6, "d"), (8, "d")]
                .map(|(id, parent)| child(id, parent))
                .to_vec();
        let mut writer = self.open(&table).await;
        writer.write(batch(&table.schema, &first)).await.unwrap();
        let committed = writer.commit(&SOME, &[]).await.unwrap();
        assert_eq!(committed.rows, 7, "rows without a marker only come");
        let mut writer = self.open(&table).await;
        writer.write(batch(&table.schema, &[child(2, "a"), child(7, "a")])).await.unwrap();
        writer.write(mark("a", true)).await.unwrap();
        writer.write(mark("c", true)).await.unwrap();
        writer.write(mark("b", false)).await.unwrap();
        let committed = writer.commit(&SOME, &[]).await.unwrap();
        assert_eq!((committed.rows, committed.deleted), (2, 2));
        assert_eq!(self.names(&table).await, ["2 a", "3 b", "4 b", "6 d", "7 a", "8 d"]);
        let mut writer = self.open(&table).await;
        writer.write(mark("a", true)).await.unwrap();
        let nothing = CommitInfo { deletable: Deletable::Nothing, ..SOME };
        assert_eq!(writer.commit(&nothing, &[]).await.unwrap().deleted, 0, "markers do not count");
        let mut writer = self.open(&table).await;
        writer.write(batch(&table.schema, &[child(2, "a"), child(8, "a")])).await.unwrap();
        writer.write(mark("a", true)).await.unwrap();
        writer.write(mark("b", false)).await.unwrap();
        let all = CommitInfo { deletable: Deletable::Everything, ..SOME };
        assert_eq!(writer.commit(&all, &[]).await.unwrap().deleted, 2);
        assert_eq!(
            self.names(&table).await,
            ["2 a", "3 b", "4 b", "8 a"],
            "the parent `d` is gone"
        );
    }

    /// Two slices of one parent: what one of them was refused may be what the other did not bring.
    async fn a_parent_keeps_its_rows_unless_all_its_slices_were_read(&self) {
        let mut table = self.table("half", Disposition::Merge);
        table.schema.columns.push(Column::new("parent", ColumnType::Text));
        table.replaces = Some("parent".to_owned());
        table.deletes = Deletes::Remove;
        let child = |id: i64, parent: &str| {
            rows(json!([{ "id": id, "name": parent, "parent": parent }])).remove(0)
        };
        let first = [(1, "a"), (2, "a"), (3, "b"), (4, "b"), (5, "c")];
        let first: Vec<Row> = first.map(|(id, parent)| child(id, parent)).to_vec();
        for deletable in [Deletable::ReadParents, Deletable::Everything] {
            let mut writer = self.open(&table).await;
            writer.write(batch(&table.schema, &first)).await.unwrap();
            writer.commit(&SOME, &[]).await.unwrap();
            let mut writer = self.open(&table).await;
            let news = ["a", "b", "c"].into_iter().zip([1, 3, 6]).map(|(name, id)| child(id, name));
            writer.write(batch(&table.schema, &news.collect::<Vec<_>>())).await.unwrap();
            // The slices 8 and 9 were begun anew.
            let marks = [("a", 1, true), ("a", 2, false), ("b", 3, false), ("b", 4, true)];
            let void = [("c", 5, true), ("c", 8, false), ("b", 9, true)];
            for (parent, slice, anew) in marks.into_iter().chain(void) {
                let marker = rows(json!([{ "parent": parent }]));
                writer.write(staged(&table.schema, &marker, slice, Some(anew))).await.unwrap();
            }
            let ending = CommitInfo { deletable, discarded_slices: vec![8, 9], ..SOME };
            assert_eq!(writer.commit(&ending, &[]).await.unwrap().deleted, 1, "{deletable:?}");
            assert_eq!(
                self.names(&table).await,
                ["1 a", "2 a", "3 b", "4 b", "6 c"],
                "{deletable:?}"
            );
            let mut writer = self.open(&table).await;
            writer
                .write(staged(&table.schema, &rows(json!([{ "parent": "c" }])), 1, Some(true)))
                .await
                .unwrap();
            writer.commit(&SOME, &[]).await.unwrap();
        }
    }

    async fn a_table_is_defined_without_rows(&self) {
        let table = self.table("defined", Disposition::Replace);
        assert!(!self.target.define(&table).await.unwrap().is_empty());
        assert_eq!((self.read)(&table).await, Some(Vec::new()));
        self.load(&table, &[(1, "Ann")]).await;
        self.target.define(&table).await.unwrap();
        assert_eq!(self.names(&table).await, ["1 Ann"]);
    }

    async fn a_table_that_is_not_there_is_missed(&self) {
        let table = self.table("missed", Disposition::Merge);
        let lost = self.target.missing_part(&table).await.unwrap().unwrap();
        assert!(lost.contains("missed") && lost.ends_with(" no longer exists"), "{lost}");
        for people in [&[][..], &[(1, "Ann")]] {
            self.load(&table, people).await;
            assert_eq!(self.target.missing_part(&table).await.unwrap(), None);
        }
    }

    async fn state_is_saved_with_the_rows(&self) {
        let replication = (self.object)("state").replace(['/', '.', '*'], "_");
        let table =
            Table { replication: replication.clone(), ..self.table("kept", Disposition::Replace) };
        let store = self.target.store(&replication).unwrap();
        assert_eq!(store.load().await.unwrap(), weir::state::Entries::new());
        let lock = store.lock(&Holder::here("one")).await.unwrap();
        let set = |key: &str, value| Change::set(key, json!({ "at": value, "odd": "\u{0} \" '" }));
        store.save(&[set("a", 1), set("b", 1), set("a", 2)]).await.unwrap();
        let mut writer = self.open(&table).await;
        writer.write(people(&table, &[(1, "Ann")])).await.unwrap();
        writer.checkpoint(&[set("b", 2), set("c", 3)]).await.unwrap();
        let again = self.target.store(&replication).unwrap();
        let entries = again.load().await.unwrap();
        let keys: Vec<&str> = entries.keys().map(String::as_str).collect();
        assert_eq!(keys, ["a", "b", "c"]);
        assert_eq!((&entries["a"]["at"], &entries["b"]["at"]), (&json!(2), &json!(2)));
        assert_eq!(entries["c"]["odd"], json!("\u{0} \" '"));
        writer.commit(&SOME, &[Change::forget("a"), set("d", 4)]).await.unwrap();
        let entries = again.load().await.unwrap();
        assert_eq!(entries.keys().map(String::as_str).collect::<Vec<_>>(), ["b", "c", "d"]);
        let other = self.target.store(&format!("{replication}2")).unwrap();
        assert!(other.load().await.unwrap().is_empty(), "replications are apart");
        drop(lock);
    }

    async fn all_who_save_a_state_know_what_the_others_saved(&self) {
        let replication = (self.object)("turns").replace(['/', '.', '*'], "_");
        let table = |name: &str| Table {
            replication: replication.clone(),
            ..self.table(name, Disposition::Replace)
        };
        let store = self.target.store(&replication).unwrap();
        let lock = store.lock(&Holder::here("one")).await.unwrap();
        let set = |key: &str, value: u64| [Change::set(key, value.into())];
        let mut one = self.open(&table("turns_one")).await;
        let mut other = self.open(&table("turns_other")).await;
        for round in 0..3 {
            store.save(&set("store", round)).await.unwrap();
            one.checkpoint(&set("one", round)).await.unwrap();
            other.checkpoint(&set("other", round)).await.unwrap();
            assert_eq!(store.load().await.unwrap()["other"], round);
        }
        other.commit(&SOME, &set("other", 3)).await.unwrap();
        store.save(&set("store", 3)).await.unwrap();
        one.commit(&SOME, &set("one", 3)).await.unwrap();
        let all = ["one", "other", "store"].map(|key| (key.to_owned(), json!(3)));
        let again = self.target.store(&replication).unwrap();
        assert_eq!(again.load().await.unwrap(), all.into_iter().collect());
        drop(lock);
    }

    async fn a_replication_is_locked_by_one(&self) {
        let replication = (self.object)("locked").replace(['/', '.', '*'], "_");
        let store = self.target.store(&replication).unwrap();
        let lock = store.lock(&Holder::here("first-run")).await.unwrap();
        assert!(lock.is_held());
        let again = self.target.store(&replication).unwrap();
        let error = again.lock(&Holder::here("second-run")).await.err().unwrap();
        assert!(error.chain().contains("first-run"), "{error:?}");
        lock.release().await;
        drop(lock);
        let lock = again.lock(&Holder::here("third-run")).await.unwrap();
        assert!(lock.is_held());
    }

    async fn every_value_comes_back(&self) {
        let columns =
            ColumnType::ALL.iter().map(|kind| Column::new(format!("a_{}", kind.name()), *kind));
        let mut table = self.table("values", Disposition::Replace);
        table.schema.columns.extend(columns);
        let mut expected = values();
        expected.sort_by_key(|row| row["id"].as_i64());
        let mut writer = self.open(&table).await;
        writer.write(batch(&table.schema, &expected)).await.unwrap();
        writer.commit(&SOME, &[]).await.unwrap();
        let mut found = self.rows(&table).await;
        found.sort_by_key(|row| row["id"].as_i64());
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(*found, normal(&table.schema, expected));
        }
    }

    async fn many_batches_arrive_whole(&self) {
        let table = self.table("many", Disposition::Replace);
        let mut writer = self.open(&table).await;
        let mut next = 0;
        for size in [1, 7000, 0, 13_000, 500, 4000, 1] {
            let people: Vec<Row> = (next..next + size)
                .map(|id| rows(json!([{ "id": id, "name": "x".repeat(300) }])).remove(0))
                .collect();
            writer.write(batch(&table.schema, &people)).await.unwrap();
            next += size;
        }
        assert_eq!(writer.commit(&SOME, &[]).await.unwrap().rows, u64::try_from(next).unwrap());
        let found = self.rows(&table).await;
        let mut ids: Vec<i64> = found.iter().map(|row| row["id"].as_i64().unwrap()).collect();
        ids.sort_unstable();
        assert!(ids.into_iter().eq(0..next));
    }

    async fn tables_are_written_side_by_side(&self) {
        let names: Vec<String> = (0..12).map(|number| format!("side_{number}")).collect();
        let tables: Vec<Table> =
            names.iter().map(|name| self.table(name, Disposition::Replace)).collect();
        let mut writers = Vec::new();
        for table in &tables {
            writers.push(self.open(table).await);
        }
        let rounds = tables.iter().zip(writers).map(async |(table, mut writer)| {
            for first in [0, 200, 400] {
                writer.write(wide(table, first..first + 200)).await.unwrap();
            }
            assert_eq!(writer.commit(&SOME, &[]).await.unwrap().rows, 600);
        });
        futures_util::future::join_all(rounds).await;
    }

    fn table(&self, name: &str, disposition: Disposition) -> Table {
        table((self.object)(name), disposition)
    }

    async fn open(&self, table: &Table) -> Box<dyn Writer> {
        let opened = self.target.open(&of_new_run(table), None).await;
        opened.unwrap_or_else(|error| panic!("{}: {error:?}", table.object)).unwrap()
    }

    async fn load(&self, table: &Table, people: &[(i64, &str)]) {
        load(self.target, table, people).await;
    }

    async fn rows(&self, table: &Table) -> Vec<Row> {
        let rows = (self.read)(table).await.unwrap_or_default();
        rows.iter().map(|row| normal(&table.schema, row)).collect()
    }

    /// `id name` of every row, sorted.
    async fn names(&self, table: &Table) -> Vec<String> {
        names(&self.rows(table).await)
    }
}

/// A table of people: a key `id`, and a `name`.
pub(crate) fn table(object: impl Into<String>, disposition: Disposition) -> Table {
    let columns = vec![Column::new("id", ColumnType::Int), Column::new("name", ColumnType::Text)];
    Table {
        replication: "people".to_owned(),
        replaces: None,
        deletes: Deletes::Ignore,
        place: Vec::new(),
        version: None,
        strict: false,
        source: Some("shop at https://shop.test".to_owned()),
        stream: "people".to_owned(),
        object: object.into(),
        schema: TableSchema { columns, key: vec!["id".to_owned()] },
        disposition,
        run_id: "20260101000000000ffffffff".to_owned(),
        files: None,
    }
}

/// What a run that saw only some rows says.
pub(crate) const SOME: CommitInfo = CommitInfo {
    deletable: Deletable::ReadParents,
    at: chrono::DateTime::UNIX_EPOCH,
    discarded_slices: Vec::new(),
};

/// The same table, written by a run of its own.
fn of_new_run(table: &Table) -> Table {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let number = RUNS.fetch_add(1, Ordering::Relaxed);
    Table { run_id: format!("20260101000000000{number:08x}"), ..table.clone() }
}

/// A batch of people.
pub(crate) fn people(table: &Table, people: &[(i64, &str)]) -> arrow_array::RecordBatch {
    let row = |(id, name): &(i64, &str)| rows(json!([{ "id": id, "name": name }])).remove(0);
    batch(&table.schema, &people.iter().map(row).collect::<Vec<_>>())
}

/// Writes people and commits; how many rows were committed.
pub(crate) async fn load(target: &dyn Target, table: &Table, rows: &[(i64, &str)]) -> u64 {
    let mut writer = target.open(&of_new_run(table), None).await.unwrap().unwrap();
    if !rows.is_empty() {
        writer.write(people(table, rows)).await.unwrap();
    }
    writer.commit(&SOME, &[]).await.unwrap().rows
}

/// `id name` of every row, sorted.
pub(crate) fn names(rows: &[Row]) -> Vec<String> {
    let name = |row: &Row| format!("{} {}", row["id"], row["name"].as_str().unwrap_or("null"));
    let mut names: Vec<String> = rows.iter().map(name).collect();
    names.sort();
    names
}

/// Rows of a kilobyte each, with these ids.
pub(crate) fn wide(table: &Table, ids: Range<i64>) -> arrow_array::RecordBatch {
    let name = "wide ".repeat(200);
    people(table, &ids.map(|id| (id, name.as_str())).collect::<Vec<_>>())
}

/// Rows with ordinary, extreme and absent values of every type.
fn values() -> Vec<Row> {
    rows(json!([
        {
            "id": 1, "name": "", "a_text": "line\nquote\" back\\ tab\t é 漢 🙂", "a_int": 42,
            "a_float": 1.5, "a_decimal": "1.5", "a_bool": true, "a_date": "2024-02-29",
            "a_timestamp": "2024-02-29T12:34:56.789012Z", "a_json": { "a": [1, null, "x"] },
            "a_bytes": "AAEC/w==",
        },
        {
            "id": i64::MAX, "a_text": "\\N", "a_int": i64::MIN, "a_float": -1.0e-300,
            "a_decimal": "99999999999999999999999999999.999999999", "a_bool": false,
            "a_date": "1969-12-31", "a_timestamp": "1969-12-31T23:59:59.999999Z",
            "a_json": "text", "a_bytes": "",
        },
        {
            "id": i64::MIN, "a_text": "null", "a_int": i64::MAX, "a_float": 1.0e300,
            "a_decimal": "-0.000000001", "a_date": "0001-01-01",
            "a_timestamp": "0001-01-01T00:00:00.000000Z", "a_json": [], "a_bytes": "AA==",
        },
        {
            "id": 2, "a_decimal": "10000", "a_int": 0, "a_float": 0.0, "a_date": "9999-12-31",
            "a_timestamp": "9999-12-31T23:59:59.999999Z", "a_json": { "deep": { "er": false } },
        },
        { "id": 3 },
    ]))
}
