//! Which module may know which: `study` stands on samplers, pruners and storages, and none of them on it.

use std::path::{Path, PathBuf};

fn sources(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = std::fs::read_dir(path).unwrap();
    entries
        .flat_map(|entry| sources(&entry.unwrap().path()))
        .collect()
}

#[test]
fn storages_samplers_and_pruners_do_not_know_the_study() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut n_files = 0;
    for below in [
        "context.rs",
        "direction.rs",
        "multi_objective",
        "parzen",
        "pruner",
        "sampler",
        "search_space.rs",
        "storage",
    ] {
        for file in sources(&root.join(below)) {
            let text = std::fs::read_to_string(&file).unwrap();
            // Tests and examples run studies.
            let code = text.split("#[cfg(test)]").next().unwrap();
            let upward = code
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"))
                .find(|line| line.contains("crate::study") || line.contains("crate::Study"));
            assert_eq!(upward, None, "{}", file.display());
            n_files += 1;
        }
    }
    assert!(n_files > 50, "{n_files}");
}
