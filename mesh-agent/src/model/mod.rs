//! What the operator asked for, in types that can't hold anything illegal.
//!
//! `config` builds these from the file; everything above reads them. Nothing
//! in here does I/O, knows where a value came from, or checks it again.

mod algorithm;
mod instance;
mod path;
mod policy;
mod protocol;
mod service;
mod settings;

pub use algorithm::Algorithm;
pub use instance::{Instance, Locality, Weight};
pub use path::{OnAgentFailure, Path, PathChoice, PathConflict};
pub use policy::{Policy, Timeouts};
pub use protocol::{Protocol, Transport};
pub use service::{Port, ServiceName, ServiceSpec};
pub use settings::{Admin, Capture, Dns, Limits, Settings};
