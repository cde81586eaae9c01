//! `bind4`, `bind6`: nobody in an account takes the sidecar's ports, which stand empty while it restarts.

use crate::{
    account,
    connect::{Family, is_listener},
    context::Call,
    maps::LISTENERS,
    refusal::{PASS, Refusal, refuse},
};

#[inline(always)]
pub fn bind(call: Call, family: Family) -> i32 {
    let port = call.port();
    if port == 0 {
        return PASS;
    }
    // SAFETY: a socket address hook's socket is never null.
    let Some(owner) = (unsafe { account::of_call(call.socket()) }) else { return PASS };
    // SAFETY: nothing in this program changes the map while the reference lives.
    match unsafe { LISTENERS.get(&call.netns_cookie()) } {
        Some(listeners) if is_listener(listeners, port) => {
            let to = match family {
                Family::V4 => call.v4(),
                Family::V6 => call.v6(),
            };
            refuse(owner, to, Refusal::Bind)
        }
        Some(_) | None => PASS,
    }
}
