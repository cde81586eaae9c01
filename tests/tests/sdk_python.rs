//! The unmodified Python SDKs: a plain call, streams, several calls, then the wall. See `tests/sdk/python`.

use meter_tests::harness::{python_script, sdk_check::check};

#[test]
fn openai_sees_no_difference_until_the_wall() {
    check(&python_script("openai_agent.py"), "0.06");
}

#[test]
fn anthropic_sees_no_difference_until_the_wall() {
    check(&python_script("anthropic_agent.py"), "0.04");
}

#[test]
fn google_genai_sees_no_difference_until_the_wall() {
    check(&python_script("google_agent.py"), "0.03");
}

/// What it sends is signed, and the simulator checks that: a byte that is changed on the way is refused.
#[test]
fn boto3_sees_no_difference_until_the_wall() {
    check(&python_script("bedrock_agent.py"), "0.014");
}
