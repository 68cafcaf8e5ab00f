//! The compiled kernel programs, which the agent carries inside itself.

use std::os::fd::AsFd as _;

use anyhow::{Context as _, bail};
use aya::{Ebpf, EbpfLoader, maps::Map, programs::Program};
use mesh_common::map;

use super::{
    hooks::{BYPASS, HOOKS, MEND, TIMING},
    pins::Pins,
    sys,
};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/mesh-ebpf.o"));

/// Loaded programs, with the maps pinned, adopted where they already were.
#[derive(Debug)]
pub struct Object {
    pub(super) ebpf: Ebpf,
    /// Whether there were maps of an earlier agent.
    pub adopted: bool,
    /// Why the programs of the bypass aren't there: few kernels are without, and
    /// all else works on those.
    pub(super) no_bypass: Option<anyhow::Error>,
    /// Whether the agent's own sockets are followed.
    pub(super) follows_agent: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("creating or adopting the maps failed: {}", chain(.0))]
    Maps(#[source] aya::EbpfError),
    #[error("the kernel refused program {name}: {}", chain(.error))]
    Program { name: &'static str, error: aya::programs::ProgramError },
    #[error("the object has no program {0}; this binary was built wrong")]
    NoProgram(&'static str),
    #[error(
        "the pinned map {name} has keys of {found_key} and values of {found_value} bytes, \
         not {key} and {value}: `mesh-agent uninstall` removes it"
    )]
    Layout { name: &'static str, key: u32, value: u32, found_key: u32, found_value: u32 },
}

/// aya's errors keep what matters (the errno) in their sources.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}

impl Object {
    /// Loads everything, with maps pinned at `pins`; without, for a trial,
    /// nothing outlives the value.
    pub fn load(pins: Option<&Pins>) -> Result<Self, LoadError> {
        let paths: Vec<_> = (pins.iter())
            .flat_map(|pins| map::ALL.iter().map(|&name| (name, pins.map(name))))
            .collect();
        let adopted = paths.iter().any(|(_, path)| path.exists());
        let mut loader = EbpfLoader::new();
        for (name, path) in &paths {
            loader.map_pin_path(name, path.as_path());
        }
        let mut ebpf = loader.load(OBJECT).map_err(LoadError::Maps)?;
        let hooks = HOOKS.iter().chain(&TIMING).map(|hook| hook.program);
        for name in hooks.chain([MEND]) {
            let program = ebpf.program_mut(name).ok_or(LoadError::NoProgram(name))?;
            let loaded = match program {
                Program::CgroupSockAddr(program) => program.load(),
                Program::CgroupSock(program) => program.load(),
                Program::SockOps(program) => program.load(),
                Program::CgroupSkb(program) => program.load(),
                _ => return Err(LoadError::NoProgram(name)),
            };
            loaded.map_err(|error| LoadError::Program { name, error })?;
        }
        let mut object = Self { ebpf, adopted, no_bypass: None, follows_agent: false };
        object.no_bypass = object.load_bypass().err();
        Ok(object)
    }

    /// To the map of sockets, which keeps its programs as long as it is pinned,
    /// or one of its sockets lives: whoever is bypassed doesn't notice an agent's
    /// end.
    fn load_bypass(&mut self) -> anyhow::Result<()> {
        for (name, attach_type) in BYPASS {
            let program = self.ebpf.program_mut(name).context(name)?;
            match program {
                Program::SkMsg(program) => program.load().context(name)?,
                Program::SkSkb(program) => program.load().context(name)?,
                _ => bail!("{name} is of another type"),
            }
            let program = program.fd()?.try_clone()?;
            let map = self.ebpf.map(map::ENDPOINTS).context(map::ENDPOINTS)?;
            let Map::SockHash(map) = map else { bail!("{map:?} is no map of sockets") };
            sys::attach_to_map(map.fd().as_fd(), program.as_fd(), attach_type).context(name)?;
        }
        Ok(())
    }
}
