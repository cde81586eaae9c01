//! What the agent is told when its request is not forwarded: the provider's own error shape.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

use super::answer::AnswerBody;
use crate::{
    cashier::Refused,
    usage::{Dialect, Problem},
};

pub(crate) fn response(dialect: &dyn Dialect, problem: &Problem) -> Response<AnswerBody> {
    let body = dialect.error_body(problem);
    let mut response = Response::new(AnswerBody::whole(Bytes::from(body)));
    *response.status_mut() = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // The official SDKs retry some statuses by themselves; only what may be different the next time is worth it.
    if problem.status < 500 || problem.status == 501 {
        headers.insert("x-should-retry", HeaderValue::from_static("false"));
    }
    response
}

fn problem(status: u16, code: &'static str, message: String) -> Problem {
    Problem { status, code, message, budget: None }
}

pub(crate) fn refused(refused: Refused) -> Problem {
    match refused {
        Refused::Budget(budget) => {
            let message = format!(
                "meter: this request does not fit its budget; add to it with `meter fund {} USD`.",
                budget.account
            );
            Problem { status: 402, code: "budget_exceeded", message, budget: Some(budget) }
        }
        Refused::NotOpen { account, state, budget } => {
            let message = format!("meter: account {account} is {state}, so no request is admitted.");
            Problem { status: 402, code: "budget_exceeded", message, budget }
        }
        Refused::Ledger(why) => problem(
            503,
            "ledger_unavailable",
            format!("meter: the ledger can't be written ({why}), so nothing is admitted until it can."),
        ),
    }
}

pub(crate) fn too_large() -> Problem {
    let mib = super::body::REQUEST_MAX / (1024 * 1024);
    problem(413, "request_too_large", format!("meter: the request's body is larger than {mib} MiB."))
}

pub(crate) fn no_room() -> Problem {
    problem(503, "overloaded", "meter: too many large requests are under way on this host; try again.".to_owned())
}

pub(crate) fn misdirected(host: &str, asked: &str) -> Problem {
    problem(
        421,
        "misdirected_request",
        format!(
            "meter: the connection was made to {host}, but the request is for {asked}; use one connection per host."
        ),
    )
}

pub(crate) fn unreadable(why: &str) -> Problem {
    problem(400, "invalid_request", format!("meter: {why}"))
}

pub(crate) fn upgrade() -> Problem {
    problem(
        501,
        "upgrade_not_metered",
        "meter: WebSockets to this provider are not metered yet, so they are refused.".to_owned(),
    )
}

pub(crate) fn unreachable(host: &str, why: &str) -> Problem {
    problem(502, "bad_gateway", format!("meter: {host} could not be reached: {why}"))
}
