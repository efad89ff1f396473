//! A parsed file: its tree, its lines, and how typed data are read from it.

use serde::de::DeserializeOwned;

use super::flaws::Flaw;
use super::former::Renamed;
use super::guard::Guard;
use super::node::Node;
use super::place::Place;
use super::problem::{Finding, Problem, Problems};
use super::{flaws, former, guard, hints, node, read};

/// Maximum length of a line that a problem shows, in characters.
const SHOWN: usize = 200;

/// A parsed file.
#[derive(Clone, Debug)]
pub struct Document {
    file: String,
    lines: Vec<String>,
    /// Whether each line may contain secrets. Problems do not show such lines.
    hidden: Vec<bool>,
    private: bool,
    root: Node,
    flaws: Vec<Flaw>,
    /// Places of the texts that were filled in, which may contain secrets.
    filled: Vec<Place>,
}

impl Document {
    /// Parses a text. `file` is the name shown in problems.
    ///
    /// # Errors
    /// The text is not YAML. (Keys that stand twice and everything about its meaning come with
    /// [`Document::read`].)
    pub fn parse(file: &str, text: &str) -> Result<Self, Problems> {
        Self::parse_with(file, text, &|lines| vec![false; lines.len()], false)
    }

    /// Like [`Document::parse`], for a file whose guarded parts may contain secrets. Problems do
    /// not show them.
    pub fn parse_guarded(file: &str, text: &str, guard: &Guard) -> Result<Self, Problems> {
        Self::parse_with(file, text, &|lines| guard::hidden(lines, guard), false)
    }

    /// Like [`Document::parse`], for a file that may contain secrets anywhere. Problems do not show
    /// its lines.
    pub fn parse_private(file: &str, text: &str) -> Result<Self, Problems> {
        Self::parse_with(file, text, &|lines| vec![true; lines.len()], true)
    }

    fn parse_with(
        file: &str,
        text: &str,
        hidden: &dyn Fn(&[String]) -> Vec<bool>,
        private: bool,
    ) -> Result<Self, Problems> {
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let mut document = Self {
            file: file.to_owned(),
            hidden: hidden(&lines),
            lines,
            private,
            root: Node::null(),
            flaws: Vec::new(),
            filled: Vec::new(),
        };
        match node::parse(text) {
            Ok(root) => {
                document.root = root;
                document.flaws = flaws::find(text);
                Ok(document)
            }
            Err((place, message)) => {
                let hides = document.hides(place);
                let message = if hides { "this is not valid YAML".to_owned() } else { message };
                let hint = hints::of_syntax(&document.lines, place).map(str::to_owned);
                Err(Problems(vec![document.problem(place, message, hint)]))
            }
        }
    }

    /// The tree.
    pub fn root(&self) -> &Node {
        &self.root
    }

    /// The same document with each text replaced by the result of `replace`. An error of `replace`
    /// becomes a problem at the place of the text.
    pub fn map_texts(
        mut self,
        replace: &dyn Fn(&str) -> Result<Option<String>, String>,
    ) -> Result<Self, Problems> {
        let mut wrong = Vec::new();
        self.root.map_texts(replace, &mut self.filled, &mut wrong);
        let problems = wrong.into_iter().map(|(place, message)| self.problem(place, message, None));
        let problems = Problems(problems.collect());
        if problems.0.is_empty() { Ok(self) } else { Err(problems.tidy()) }
    }

    /// The same document with former names of keys replaced by the present ones. A mapping with
    /// both names is reported as a problem by each later reading.
    #[must_use]
    pub fn renamed(mut self, keys: &[Renamed]) -> Self {
        for key in keys {
            former::rename(&mut self.root, key.path, key, &mut self.flaws);
        }
        self
    }

    /// Reads typed data.
    ///
    /// # Errors
    /// All unknown keys, wrong types, missing and duplicate keys, each with its place.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Problems> {
        self.read_checked(|_| Vec::new())
    }

    /// Reads typed data and checks their meaning.
    ///
    /// # Errors
    /// As with [`Document::read`], together with what `check` finds in the part that could be read;
    /// what it finds only because the rest could not is left out.
    pub fn read_checked<T: DeserializeOwned>(
        &self,
        check: impl FnOnce(&T) -> Vec<Finding>,
    ) -> Result<T, Problems> {
        let reading = read::read::<T>(&self.root);
        let mut problems = Vec::new();
        for fault in reading.faults {
            let secret = self.hides(fault.place) || self.filled.contains(&fault.place);
            let message = if secret { fault.public_message } else { fault.message };
            problems.push(self.problem(fault.place, message, fault.hint));
        }
        for finding in reading.data.as_ref().map(check).unwrap_or_default() {
            if !reading.cuts.iter().any(|cut| cut.explains(&finding)) {
                problems.push(self.located(&reading.tree, finding));
            }
        }
        // A problem at the place of a flaw only repeats it.
        problems.retain(|problem| self.flaws.iter().all(|flaw| flaw.place != problem.place));
        let flaws = self
            .flaws
            .iter()
            .map(|flaw| self.problem(flaw.place, flaw.message.clone(), Some(flaw.hint.to_owned())));
        problems.extend(flaws);
        match reading.data {
            Some(data) if problems.is_empty() => Ok(data),
            _ => Err(Problems(problems).tidy()),
        }
    }

    /// Looks up the places of findings.
    pub fn locate(&self, findings: Vec<Finding>) -> Problems {
        let located = findings.into_iter().map(|finding| self.located(&self.root, finding));
        Problems(located.collect()).tidy()
    }

    fn located(&self, tree: &Node, finding: Finding) -> Problem {
        let path: Vec<&str> = finding.path.iter().map(String::as_str).collect();
        self.problem(tree.place_of(&path), finding.message, finding.hint)
    }

    /// Whether the text at a place may be secret.
    fn hides(&self, place: Place) -> bool {
        let line = place.line.checked_sub(1).and_then(|index| self.hidden.get(index));
        line.copied().unwrap_or(self.private)
    }

    fn problem(&self, place: Place, message: String, hint: Option<String>) -> Problem {
        let line = place.line.checked_sub(1).and_then(|index| self.lines.get(index)).cloned();
        // A URL with a login holds a password.
        let login = |line: &str| line.split_once("://").is_some_and(|(_, rest)| rest.contains('@'));
        let line =
            line.filter(|line| !self.hides(place) && line.chars().count() <= SHOWN && !login(line));
        Problem { file: self.file.clone(), place, message, hint, line }
    }
}

#[cfg(test)]
mod tests {
    use indexmap::IndexMap;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only the reading matters")]
    struct Config {
        name: String,
        size: Option<u32>,
        #[serde(default)]
        items: Vec<Item>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "lowercase")]
    #[expect(dead_code, reason = "only the reading matters")]
    enum Item {
        Cursor { at: String },
        Page { start: u8 },
    }

    #[track_caller]
    fn check(text: &str, rendered: &str) {
        let problems = match Document::parse("a.yaml", text) {
            Ok(document) => document.read::<Config>().map(|_| ()).unwrap_err(),
            Err(problems) => problems,
        };
        assert_eq!(problems.to_string(), rendered);
    }

    #[test]
    fn all_problems_are_told_at_once() {
        check(
            "nam: x\nsize: lots\nitems:\n  - cursor: { att: y }\n  - page: { start: 300 }\n  - curser: {}\n",
            "a.yaml:1:1: unknown key `nam`\n  1 | nam: x\n    | ^\n  hint: did you mean `name`?\n\
             a.yaml:2:7: `lots` is not a whole number of 0 or more\n  2 | size: lots\n    |       ^\n\
             a.yaml:4:15: unknown key `att`\n  4 |   - cursor: { att: y }\n    |               ^\n  hint: did you mean `at`?\n\
             a.yaml:5:20: 300 is not a whole number from 0 to 255\n  5 |   - page: { start: 300 }\n    |                    ^\n\
             a.yaml:6:5: unknown key `curser`\n  6 |   - curser: {}\n    |     ^\n  hint: did you mean `cursor`?",
        );
    }

    #[test]
    fn duplicate_keys_are_found() {
        check(
            "name: a\nname: b\n",
            "a.yaml:2:1: the key `name` is set twice\n  2 | name: b\n    | ^\n  hint: remove one of the two",
        );
    }

    #[test]
    fn unquoted_braces_get_a_hint() {
        let text = "name: {{ x }}\n";
        let problems = match Document::parse("a.yaml", text) {
            Ok(document) => document.read::<Config>().map(|_| ()).unwrap_err(),
            Err(problems) => problems,
        };
        assert!(problems.to_string().contains("quote"), "{problems}");
    }

    #[test]
    fn what_everybody_gets_wrong_in_yaml_has_a_hint() {
        let table = [
            ("name: x\nitems:\n  *:\n", "a.yaml:3:", "\"*\""),
            ("name: x\nitems: [*]\n", "a.yaml:2:", "\"*\""),
            ("name: x\nitems:\n\t- page: {}\n", "a.yaml:3:", "does not allow tabs"),
            ("name: x\nsize:\n\t3\n\titems: []\n", "a.yaml:", "does not allow tabs"),
            ("name: {stream_name}\n", "a.yaml:1:7", "quote it: \"{stream_name}\""),
            ("name: {stream_name}.parquet\n", "a.yaml:1:", "quote a text that begins with `{`"),
            ("name: a: b\n", "a.yaml:1:", "a colon and a space"),
            ("name: @me\n", "a.yaml:1:", "begins with a sign"),
            ("- name\n- size\n", "a.yaml:1:1", "write `name:` instead of `- name`"),
        ];
        for (text, place, hint) in table {
            for private in [false, true] {
                let parse = if private { Document::parse_private } else { Document::parse };
                let told = match parse("a.yaml", text) {
                    Ok(document) => document.read::<Config>().unwrap_err().to_string(),
                    Err(problems) => problems.to_string(),
                };
                let shown = format!("{text}: {told}");
                assert!(told.starts_with(place), "{shown}");
                // A private document's values are not shown.
                let bare =
                    ["quote it", "a list is not a mapping"].iter().any(|one| told.contains(one));
                assert!(told.contains(hint) || private && bare, "{shown}");
            }
        }
    }

    #[test]
    fn a_single_value_is_a_list_of_one_and_quotes_do_no_harm() {
        #[derive(Debug, Deserialize, PartialEq)]
        struct Values {
            names: Vec<String>,
            flag: Option<bool>,
            whole: u32,
            half: f64,
        }
        let text = "names: title\nflag: \"true\"\nwhole: '5'\nhalf: \"0.5\"\n";
        let values: Values = Document::parse("a.yaml", text).unwrap().read().unwrap();
        let names = vec!["title".to_owned()];
        assert_eq!(values, Values { names, flag: Some(true), whole: 5, half: 0.5 });
        let wrong = "names: { a: 1 }\nflag: yes\nwhole: five\nhalf: nan\n";
        let problems = Document::parse("a.yaml", wrong).unwrap().read::<Values>().unwrap_err();
        assert_eq!(problems.0.len(), 4, "{problems}");
    }

    #[test]
    fn a_line_with_a_login_is_not_shown() {
        let text = "name: x\nsize: postgres://ann:s3cret@db/wh\n";
        let problems = Document::parse("a.yaml", text).unwrap().read::<Config>().unwrap_err();
        let line = problems.0[0].line.as_deref();
        assert_eq!(line, None);
    }

    #[test]
    fn merge_keys_work_and_private_files_stay_private() {
        let text = "base: &b { name: x }\ndeep:\n  <<: *b\n  size: secret\n";
        let document = Document::parse_private("c.yaml", text).unwrap();
        let problems = document.read::<IndexMap<String, Config>>().unwrap_err().to_string();
        assert!(problems.starts_with("c.yaml:4:9: "), "{problems}");
        assert!(!problems.contains("secret"), "{problems}");
    }

    #[test]
    fn what_was_filled_in_is_not_shown() {
        let document = Document::parse("a.yaml", "name: x\nsize: $SIZE\n").unwrap();
        let fill = |text: &str| Ok((text == "$SIZE").then(|| "hunter2".to_owned()));
        let problems = document.map_texts(&fill).unwrap().read::<Config>().unwrap_err();
        assert!(problems.to_string().contains("size: $SIZE"), "{problems}");
        assert!(!problems.to_string().contains("hunter2"), "{problems}");
    }

    #[test]
    fn findings_are_placed_by_path() {
        let document = Document::parse("a.yaml", "a:\n  b: [x, y]\n").unwrap();
        let at = |path: &[&str]| {
            let problems = document.locate(vec![Finding::new(path, "bad")]);
            let place = problems.0[0].place;
            (place.line, place.column)
        };
        assert_eq!(at(&["a", "b", "1"]), (2, 10));
        assert_eq!(at(&["a", "missing"]), (1, 1));
        assert_eq!(at(&[]), (1, 1));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,60}|[ a:{}\\[\\]&*<\n\"'-]{0,40}") {
            if let Ok(document) = Document::parse("x", &text) {
                drop(document.read::<Config>());
            }
        }
    }
}
