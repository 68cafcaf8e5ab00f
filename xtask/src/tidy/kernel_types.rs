//! What kernel and agent share is known to few modules of the agent: to
//! `datapath`, which speaks with the kernel, and to `balance`,
//! `health` and `limit`, for the arithmetic that both run.

use super::{Finding, tree::Tree};

const FOLDER: &str = "mesh-agent/src/";
const ALLOWED: [&str; 4] = [
    "mesh-agent/src/balance",
    "mesh-agent/src/datapath",
    "mesh-agent/src/health",
    "mesh-agent/src/limit",
];

pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let files = tree.rust.iter().filter(|source| source.path.starts_with(FOLDER));
    for source in files.filter(|source| !is_allowed(&source.path)) {
        for (index, line) in source.lines.iter().enumerate() {
            if line.code.contains("mesh_common") {
                let text =
                    "only `balance`, `datapath`, `health` and `limit` may import `mesh_common`";
                findings.push(Finding::new(&source.path, index + 1, text));
            }
        }
    }
    findings
}

fn is_allowed(path: &str) -> bool {
    ALLOWED.iter().any(|module| {
        path.strip_prefix(module).is_some_and(|rest| rest.starts_with('/') || rest == ".rs")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_few_modules_know_the_kernels_types() {
        let text = "use mesh_common::select;";
        let tree = Tree::of(&[
            ("mesh-agent/src/balance/mod.rs", text),
            ("mesh-agent/src/datapath/plan.rs", text),
            ("mesh-agent/src/datapathological.rs", text),
            ("mesh-agent/src/telemetry/mod.rs", text),
            ("mesh-agent/src/cli/mod.rs", "//! as in [`mesh_common::select`]"),
            ("mesh-ebpf/src/main.rs", text),
        ]);
        let paths: Vec<_> = check(&tree).into_iter().map(|finding| finding.path).collect();
        assert_eq!(
            paths,
            ["mesh-agent/src/datapathological.rs", "mesh-agent/src/telemetry/mod.rs"]
        );
    }
}
