//! The committed documents are those that the types give.

use std::{fs, path::Path};

#[test]
fn committed_documents_match_the_types() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("generated");
    for (name, text) in router_schemas::documents::all() {
        let committed = fs::read_to_string(folder.join(&name)).unwrap_or_default();
        assert!(
            committed == text,
            "{name} is out of date: run `cargo run --release -p router-schemas -- write`"
        );
    }
}
