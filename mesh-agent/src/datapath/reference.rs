//! docs/reasons.md.

use std::fmt::Write as _;

use mesh_common::reason::Reason;

/// The page: every reason that a hook decides by.
pub fn reference() -> String {
    let mut page = String::from(
        "# Reasons\n\n\
         Every decision of a hook is counted under its reason: in `mesh-agent status`, and\n\
         as the metric `mesh_verdicts_total{reason=\"…\"}`. Numbers are never used again for\n\
         another meaning.\n\n\
         This page is generated from `mesh-common/src/reason.rs`.\n\n\
         | number | reason | meaning |\n|---|---|---|\n",
    );
    for &reason in Reason::ALL {
        let (name, meaning) = (reason.name(), reason.meaning().trim());
        writeln!(page, "| {} | `{name}` | {meaning} |", reason as u32)
            .expect("writing to a String cannot fail");
    }
    page
}
