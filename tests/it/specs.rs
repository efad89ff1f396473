//! Every spec and replication in the repository is valid and can be planned.

use std::{fs, path::Path};

use weir::spec::Spec;

#[test]
fn every_spec_is_valid() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("specs");
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        if let Err(problems) = Spec::load(&path.display().to_string(), &text) {
            panic!("{problems}");
        }
    }
}
