//! Whether the hooks may take payload past TCP.

use anyhow::Context as _;
use mesh_common::policy::flag;

use super::Tables;
use crate::datapath::plan::Operation;

impl Tables {
    /// Looks whether the kernel can, once a policy asks for it, and tells the
    /// hooks.
    pub(super) fn start_bypass(&mut self, operations: &[Operation]) -> anyhow::Result<()> {
        let asked = operations.iter().any(|operation| {
            matches!(operation, Operation::PutPolicy(_, policy) if policy.flags & flag::BYPASS != 0)
        });
        if !asked || !self.bypass.look() {
            return Ok(());
        }
        let mut value = self.settings.get(&0, 0).context("reading the settings map")?;
        value.counts = self.bypass.counts();
        self.settings.set(0, value, 0).context("writing the settings map")
    }
}
