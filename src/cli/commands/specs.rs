//! `weir spec`.

use serde_json::json;

use crate::cli::args::{Shared, SpecCommand as Command};
use crate::cli::exit::Exit;
use crate::cli::open;
use crate::cli::output::printer;
use crate::error::Result;
use crate::spec::{EMBEDDED, Spec};
use crate::yaml::Problem;

pub(crate) fn run(command: &Command, shared: Shared) -> Result<Exit> {
    match command {
        Command::List => list(shared),
        Command::Show { spec } => {
            let (_, text) = open::spec_text(spec)?;
            if shared.json {
                printer::json(&json!({ "name": spec, "text": text }));
            } else {
                printer::data(text.trim_end());
            }
            Ok(Exit::Done)
        }
        Command::Validate { file } => {
            let (name, text) = open::spec_text(&file.display().to_string())?;
            let loaded = Spec::load(&name, &text);
            if shared.json {
                let problems = loaded.as_ref().err().map(|problems| problems.0.as_slice());
                let problems = problems.unwrap_or_default();
                let warnings = loaded.as_ref().map(|spec| spec.warnings(&name, &text).0);
                let warnings = shown(warnings.as_deref().unwrap_or_default());
                printer::json(
                    &json!({ "file": name, "problems": shown(problems), "warnings": warnings }),
                );
                return Ok(if problems.is_empty() { Exit::Done } else { Exit::WrongInput });
            }
            match loaded {
                Ok(spec) => {
                    for warning in spec.warnings(&name, &text).0 {
                        printer::note(shared, &warning.to_string());
                    }
                    let count = printer::counted(spec.selectable().count() as u64, "stream");
                    printer::data(&format!("{name}: valid, {count}"));
                    Ok(Exit::Done)
                }
                Err(problems) => {
                    printer::info(&problems.to_string());
                    let count = printer::counted(problems.0.len() as u64, "problem");
                    printer::info(&format!("{name}: {count}"));
                    Ok(Exit::WrongInput)
                }
            }
        }
    }
}

fn shown(problems: &[Problem]) -> Vec<serde_json::Value> {
    let shown = |problem: &Problem| {
        json!({
            "line": problem.place.line,
            "column": problem.place.column,
            "message": problem.message,
            "hint": problem.hint,
        })
    };
    problems.iter().map(shown).collect()
}

fn list(shared: Shared) -> Result<Exit> {
    let mut rows = vec![["spec", "title", "streams"].map(str::to_owned).to_vec()];
    let mut all = Vec::new();
    for (name, _) in EMBEDDED {
        let spec = open::spec(name)?;
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
