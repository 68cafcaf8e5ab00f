//! `getpeername`: the application sees the address that it asked for.

use aya_ebpf::programs::SockAddrContext;

use crate::{
    context::{self, Family, Verdict},
    storage,
};

#[inline(always)]
pub fn name<F: Family>(ctx: &SockAddrContext) -> Verdict {
    if let Some(socket) = storage::get(context::socket(ctx)) {
        let (original, actual) = (socket.original, socket.actual);
        if F::read(ctx) == actual {
            F::write(ctx, &original);
        }
    }
    Verdict::Proceed
}
