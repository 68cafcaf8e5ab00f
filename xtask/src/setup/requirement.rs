//! What this repository needs of a machine, and which Debian package has it.

use std::process::Command;

use crate::{
    process,
    setup::Purpose,
    toolchain::{self, Toolchain},
};

/// Something that has to be there.
#[derive(Debug, Clone, Copy)]
pub struct Requirement {
    pub name: &'static str,
    pub used_for: &'static str,
    /// From this purpose on.
    purpose: Purpose,
    pub source: Source,
}

/// Where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A program of this name, in these packages.
    Program(&'static [&'static str]),
    /// The compiler that has `core` for BPF, or can build it.
    KernelCompiler,
    /// bpf-linker, which is in no distribution.
    KernelLinker,
    /// clippy of that same compiler.
    KernelClippy,
}

const fn program(
    name: &'static str,
    packages: &'static [&'static str],
    purpose: Purpose,
    used_for: &'static str,
) -> Requirement {
    Requirement { name, used_for, purpose, source: Source::Program(packages) }
}

/// All of it. A package is named once, here.
const ALL: [Requirement; 20] = [
    program("cc", &["gcc", "libc6-dev"], Purpose::Build, "links every Rust program"),
    program("make", &["make"], Purpose::Build, "builds the agent's allocator"),
    Requirement {
        name: "rustc for BPF",
        used_for: "compiles the kernel programs",
        purpose: Purpose::Build,
        source: Source::KernelCompiler,
    },
    Requirement {
        name: "bpf-linker",
        used_for: "links the kernel programs",
        purpose: Purpose::Build,
        source: Source::KernelLinker,
    },
    program("ip", &["iproute2"], Purpose::Test, "makes the pods of the tests"),
    program("mount", &["mount"], Purpose::Test, "mounts the BPF file system"),
    program("nginx", &["nginx-light"], Purpose::Test, "backends of the tests"),
    program("curl", &["curl"], Purpose::Test, "an HTTP client"),
    program("wrk", &["wrk"], Purpose::Test, "HTTP/1.1 under load"),
    program("h2load", &["nghttp2-client"], Purpose::Test, "HTTP/2 and gRPC under load"),
    program("iperf3", &["iperf3"], Purpose::Test, "TCP and UDP under load"),
    program("dnsmasq", &["dnsmasq-base"], Purpose::Test, "a DNS server"),
    program("dig", &["bind9-dnsutils"], Purpose::Test, "a DNS client"),
    program("python3", &["python3"], Purpose::Test, "applications in another language"),
    program("containerd", &["containerd"], Purpose::Test, "runs the agent's image"),
    program("runc", &["runc"], Purpose::Test, "starts its containers"),
    program("kill", &["procps"], Purpose::Test, "ends processes of the tests"),
    program("git", &["git"], Purpose::Ci, "tells tidy which files are ours"),
    program("valgrind", &["valgrind"], Purpose::Ci, "counts instructions"),
    Requirement {
        name: "clippy for BPF",
        used_for: "lints the kernel programs",
        purpose: Purpose::Ci,
        source: Source::KernelClippy,
    },
];

/// What this purpose needs and this machine lacks.
pub fn missing(purpose: Purpose) -> Vec<Requirement> {
    let needed = ALL.into_iter().filter(|item| item.purpose <= purpose);
    needed.filter(|item| !item.is_there()).collect()
}

impl Requirement {
    fn is_there(&self) -> bool {
        match self.source {
            Source::Program(_) => process::find_program(self.name).is_some(),
            Source::KernelCompiler => Toolchain::find_compiler().is_some(),
            // Started, not only found: one that lacks its libLLVM is no linker.
            Source::KernelLinker => toolchain::linker()
                .is_some_and(|path| process::succeeds(Command::new(path).arg("--version"))),
            Source::KernelClippy => {
                Toolchain::find_compiler().is_some_and(|toolchain| toolchain.has_clippy())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wider_purpose_needs_all_of_a_narrower_one() {
        let count = |purpose| ALL.iter().filter(|item| item.purpose <= purpose).count();
        assert!(count(Purpose::Build) < count(Purpose::Test));
        assert!(count(Purpose::Test) < count(Purpose::Ci));
        assert_eq!(count(Purpose::Ci), ALL.len());
    }
}
