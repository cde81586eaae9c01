//! A refusal and a cut in the shapes that the official SDKs raise as their own errors.

use super::RESPONSES;
use crate::usage::{Endpoint, Problem, sse::error_event};

/// `{"error": {message, type, param, code, meter}}`, as the official SDKs read it.
pub(crate) fn error_body(problem: &Problem) -> Vec<u8> {
    error(problem).to_string().into_bytes()
}

/// The same as an event of a WebSocket, of Realtime and of Responses.
pub(crate) fn socket_error(problem: &Problem) -> Vec<u8> {
    let mut event = error(problem);
    event["type"] = "error".into();
    event["event_id"] = "event_meter".into();
    event["status"] = problem.status.into();
    event.to_string().into_bytes()
}

fn error(problem: &Problem) -> serde_json::Value {
    let kind = match problem.status {
        402 => "insufficient_quota",
        500.. => "server_error",
        _ => "invalid_request_error",
    };
    let mut error = serde_json::json!({
        "message": problem.text(),
        "type": kind,
        "param": null,
        "code": problem.code,
    });
    if let Some(budget) = &problem.budget {
        error["meter"] = serde_json::json!(budget);
    }
    serde_json::json!({ "error": error })
}

/// An error in a stream's event. Of Responses it is an event of its own kind too, with the same facts beside its type:
/// who reads events by their type finds it there, and the SDKs raise what has an `error`.
pub(crate) fn cut_event(endpoint: Endpoint, problem: &Problem) -> Vec<u8> {
    if endpoint.name != RESPONSES {
        return error_event("", &error_body(problem));
    }
    let mut event = error(problem);
    event["type"] = "error".into();
    event["code"] = problem.code.into();
    event["message"] = problem.text().into();
    event["param"] = serde_json::Value::Null;
    error_event("error", event.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::{super::CHAT, *};
    use crate::{
        measure::{Measure, Unit},
        usage::{Billing, BudgetFacts, Remedy},
    };

    #[test]
    fn a_refusal_has_the_providers_shape_and_the_budget_facts() {
        let problem = Problem {
            status: 402,
            code: "budget_exceeded",
            message: "spent".to_owned(),
            budget: Some(BudgetFacts {
                account: "research".to_owned(),
                limit: "total $0.5".to_owned(),
                category: "any",
                spent: Measure { unit: Unit::Usd, amount: 1 },
                held: Measure { unit: Unit::Usd, amount: 0 },
                needed: Measure { unit: Unit::Usd, amount: 2 },
                reset: None,
                remedy: Remedy::Fund,
            }),
        };
        let body: serde_json::Value = serde_json::from_slice(&error_body(&problem)).unwrap();
        assert_eq!(body["error"]["type"], "insufficient_quota");
        assert_eq!(body["error"]["code"], "budget_exceeded");
        assert_eq!(body["error"]["meter"]["account"], "research");
        let sentence = "spent Account research, limit total $0.5 (any): $0.000000000001 spent, $0 held, \
            $0.000001 needed; it does not reset.";
        assert_eq!(body["error"]["message"], sentence);
        assert_eq!(body["error"]["meter"]["needed_usd"], "0.000000000002");
    }

    #[test]
    fn a_cut_stream_ends_with_an_error_in_its_own_shape() {
        let problem = Problem { status: 402, code: "budget_exceeded", message: "spent".to_owned(), budget: None };
        let event = |name| {
            let event = cut_event(Endpoint { name, billing: Billing::Metered }, &problem);
            let text = String::from_utf8(event).unwrap();
            let (named, data) = text.split_once("data: ").unwrap();
            (named.to_owned(), serde_json::from_str::<serde_json::Value>(data.strip_suffix("\n\n").unwrap()).unwrap())
        };
        let (named, data) = event(CHAT);
        assert_eq!((named.as_str(), &data["error"]["code"]), ("", &serde_json::json!("budget_exceeded")));
        let (named, data) = event(RESPONSES);
        assert_eq!(named, "event: error\n");
        assert_eq!((&data["type"], &data["message"]), (&serde_json::json!("error"), &serde_json::json!("spent")));
        assert_eq!(data["error"]["code"], "budget_exceeded");
    }
}
