//! Whether the hooks may take payload past TCP.

use anyhow::Context as _;
use mesh_common::bypass::{Counts, PairKey};

use super::Tables;
use crate::datapath::plan::Operation;

impl Tables {
    /// Looks whether the kernel can, once a policy asks for it, and tells the
    /// hooks.
    pub(super) fn start_bypass(&mut self, operations: &[Operation]) -> anyhow::Result<()> {
        for operation in operations {
            if let Operation::PutPolicy(_, policy) = operation {
                self.bypass.note(policy);
            }
        }
        if !self.bypass.look() {
            return Ok(());
        }
        let mut value = self.settings.get(&0, 0).context("reading the settings map")?;
        value.counts = self.bypass.counts();
        let told = self.settings.set(0, value, 0).context("writing the settings map");
        if told.is_err() {
            // The next one tries again.
            self.bypass.found(Counts::default());
        }
        told
    }

    /// Proxied connections past TCP, and the cookies of the pods' sockets.
    pub fn proxied_past_tcp(&self) -> Vec<(PairKey, u64)> {
        self.bypass.proxied()
    }

    /// These ended, and no hook saw it.
    pub fn forget_past_tcp(&mut self, gone: &[PairKey]) {
        gone.iter().for_each(|key| self.bypass.end(key));
    }
}
