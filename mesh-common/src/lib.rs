//! What the kernel programs and the agent share.
//!
//! The keys and values of every map, the reasons behind every verdict, and the
//! arithmetic that picks a backend: plain `no_std` functions over integers, so
//! that what the kernel runs is tested on the host.
//!
//! Layout rules: `repr(C)`, integers only, explicit padding that is always
//! zero (keys are compared as bytes), and `_be` in the name of everything in
//! network byte order. A change of any layout raises [`map::ABI_VERSION`],
//! which is part of the path that the maps are pinned under.
#![no_std]

pub mod address;
pub mod affinity;
pub mod backend;
pub mod bypass;
pub mod connection;
pub mod ejection;
pub mod event;
pub mod ewma;
pub mod exclude;
pub mod frontend;
pub mod gcra;
pub mod hash;
pub mod least;
pub mod lookup;
pub mod maglev;
pub mod map;
pub mod meter;
pub mod pace;
pub mod policy;
pub mod reason;
pub mod schedule;
pub mod search;
pub mod select;
pub mod selective;
pub mod service;
pub mod settings;
pub mod socket;
pub mod unreached;

/// Marks a type as plain bytes for aya, which only the agent links.
macro_rules! plain_bytes {
    ($($type:ty),+ $(,)?) => {
        $(
            #[cfg(feature = "user")]
            // SAFETY: repr(C), integers only, no implicit padding (pinned by
            // the layout tests), and every bit pattern is a valid value.
            unsafe impl aya::Pod for $type {}
        )+
    };
}
pub(crate) use plain_bytes;
