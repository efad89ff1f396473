//! `weir spec`.

use serde_json::json;

use super::{
    Exit,
    args::{Shared, Spec as Command},
    files, printer,
};
use crate::error::Result;
use crate::spec::{EMBEDDED, Spec};

pub(super) fn run(command: &Command, shared: Shared) -> Result<Exit> {
    match command {
        Command::List => list(shared),
        Command::Show { spec } => {
            let (_, text) = files::spec_text(spec)?;
            if shared.json {
                printer::json(&json!({ "name": spec, "text": text }));
            } else {
                printer::data(text.trim_end());
            }
            Ok(Exit::Done)
        }
        Command::Validate { file } => {
            let (name, text) = files::spec_text(&file.display().to_string())?;
            let loaded = Spec::load(&name, &text);
            if shared.json {
                let problems: Vec<_> = loaded
                    .as_ref()
                    .err()
                    .map(|problems| &problems.0)
                    .into_iter()
                    .flatten()
                    .collect();
                let rows = problems.iter().map(|problem| {
                    json!({ "line": problem.place.line, "column": problem.place.column, "message": problem.message, "hint": problem.hint })
                });
                printer::json(&json!({ "file": name, "problems": rows.collect::<Vec<_>>() }));
                return Ok(if problems.is_empty() { Exit::Done } else { Exit::WrongInput });
            }
            match loaded {
                Ok(spec) => {
                    let count = printer::counted(spec.selectable().count() as u64, "stream");
                    printer::data(&format!("{name}: valid, {count}"));
                    Ok(Exit::Done)
                }
                Err(problems) => {
                    printer::talk(&problems.to_string());
                    let count = printer::counted(problems.0.len() as u64, "problem");
                    printer::talk(&format!("{name}: {count}"));
                    Ok(Exit::WrongInput)
                }
            }
        }
    }
}

fn list(shared: Shared) -> Result<Exit> {
    let mut rows = vec![["spec", "title", "streams"].map(str::to_owned).to_vec()];
    let mut all = Vec::new();
    for (name, _) in EMBEDDED {
        let spec = files::spec(name)?;
        let title = spec.title.clone().unwrap_or_default();
        all.push(json!({ "name": name, "title": title, "streams": spec.selectable().count() }));
        rows.push(vec![name.to_owned(), title, spec.selectable().count().to_string()]);
    }
    if shared.json {
        printer::json(&all);
    } else {
        printer::data(&printer::table(&rows, &[2]));
    }
    Ok(Exit::Done)
}
