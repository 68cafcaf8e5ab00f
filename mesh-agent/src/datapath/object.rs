//! The compiled kernel programs, which the agent carries inside itself.

use aya::{Ebpf, EbpfLoader, programs::Program};
use mesh_common::map;

use super::{
    hooks::{HOOKS, MEND, TIMING},
    pins::Pins,
};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/mesh-ebpf.o"));

/// Loaded programs, with the maps pinned, adopted where they already were.
#[derive(Debug)]
pub struct Object {
    pub(super) ebpf: Ebpf,
    /// Whether there were maps of an earlier agent.
    pub adopted: bool,
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
        Ok(Self { ebpf, adopted })
    }
}
