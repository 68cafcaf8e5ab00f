//! The node agent. Modules stand in levels; each imports only from lower ones
//! (`cargo xtask tidy` fails where that is broken). ARCHITECTURE.md has the map.

pub mod admin;
pub mod app;
pub mod balance;
pub mod cli;
pub mod config;
pub mod datapath;
pub mod discovery;
pub mod dns;
pub mod health;
pub mod kubernetes;
pub mod limit;
pub mod model;
pub mod net;
pub mod proxy;
pub mod registry;
pub mod retry;
pub mod route;
pub mod tap;
pub mod telemetry;
