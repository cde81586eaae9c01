//! A request that goes on with a cheaper model, where its account does so at a limit.
//!
//! The model is changed in the dialect's own place, what the request says is read again, and its worst case is held at
//! the new model's price. What can't be changed (a signed request, one whose model nobody knows) is refused as if
//! there were no cheaper model, with the facts of the limit that was reached.

use bytes::Bytes;
use http::{request::Parts, uri::PathAndQuery};

use super::{
    admission::{Manner, NotHeld, Refusal, Said, aside, hold, is_signed, understood},
    aside::IN_PLACE_MAX,
    forward::call_of,
    http::Session,
    live::Live,
};
use crate::{
    accounts::policy::Degrade,
    cashier::Refused,
    usage::{Call, Dialect, Endpoint},
};

/// Admits the request with the model that takes its model's place, or as it is where it asks for such a one itself.
pub(super) async fn go_on(
    session: &Session,
    parts: &Parts,
    (dialect, endpoint): (&'static dyn Dialect, Endpoint),
    live: &mut Live,
    said: Said,
    (by, refused): (&Degrade, Refused),
) -> Result<Said, Refusal> {
    let Some(model) = said.facts.model.clone() else { return Err(Refusal::budget(refused)) };
    let said = match by.replacement(&model) {
        Some(to) => match renamed(session, parts, (dialect, endpoint), said, to.to_owned()).await {
            Some(said) => {
                live.open().exchange.degraded(to.to_owned());
                said
            }
            None => return Err(Refusal::budget(refused)),
        },
        None if by.models.iter().any(|(_, to)| *to == model) => said,
        None => return Err(Refusal::budget(refused)),
    };
    match hold(session, live, &said.facts, &Manner { degraded: true, ..Manner::default() }).await {
        Ok(()) => Ok(said),
        Err(NotHeld::Refused(now)) if matches!(*now, Refused::NotOpen { .. } | Refused::Ledger(_)) => {
            Err(Refusal::budget(*now))
        }
        Err(NotHeld::Refused(_) | NotHeld::Priceless(_)) => {
            live.open().exchange.degraded_in_vain();
            Err(Refusal::budget(refused))
        }
    }
}

/// The request with another model; `None` where it can't be changed.
async fn renamed(
    session: &Session,
    parts: &Parts,
    (dialect, endpoint): (&'static dyn Dialect, Endpoint),
    said: Said,
    model: String,
) -> Option<Said> {
    if is_signed(&parts.headers) {
        return None;
    }
    let Call { path_and_query, content_type, quirks, .. } = call_of(session, parts, endpoint);
    let (path, content_type) = (path_and_query.to_owned(), content_type.to_owned());
    let heavy = said.decoded.len() > IN_PLACE_MAX;
    let work = move || {
        let call = Call { endpoint, path_and_query: &path, content_type: &content_type, quirks };
        let Ok(renamed) = dialect.renamed(&call, &said.decoded, &model) else { return Ok(None) };
        let Ok(path) = renamed.path_and_query.map(PathAndQuery::try_from).transpose() else { return Ok(None) };
        let path_and_query = path.as_ref().map_or(call.path_and_query, PathAndQuery::as_str);
        let (facts, decoded) = understood(dialect, &Call { path_and_query, ..call }, None, Bytes::from(renamed.body))?;
        // What does not say the new model now would be billed at another one's price.
        let is_new = facts.model.as_deref() == Some(model.as_str());
        Ok(is_new.then_some(Said { facts, decoded, path, renamed: true }))
    };
    aside(session, heavy, work).await.ok().flatten()
}
