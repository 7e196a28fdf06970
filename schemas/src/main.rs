//! `router-schemas write`: writes the generated documents to `schemas/generated/`.

use std::{env, fs, path::Path, process::ExitCode};

fn main() -> ExitCode {
    if env::args().nth(1).as_deref() != Some("write") {
        eprintln!("usage: router-schemas write   (writes schemas/generated/ from the types)");
        return ExitCode::from(64);
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("generated");
    let written = fs::create_dir_all(&folder).and_then(|()| {
        router_schemas::documents::all()
            .iter()
            .try_for_each(|(name, text)| fs::write(folder.join(name), text))
    });
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot write {}: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}
