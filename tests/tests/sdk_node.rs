//! The unmodified Node SDKs: a plain call, streams, several calls, then the wall. See `tests/sdk/node`.

use meter_tests::harness::{node_script, sdk_check::check};

#[test]
fn openai_sees_no_difference_until_the_wall() {
    check(&node_script("openai_agent.mjs"), "0.06");
}

#[test]
fn anthropic_sees_no_difference_until_the_wall() {
    check(&node_script("anthropic_agent.mjs"), "0.04");
}
