//! Calls of search APIs, by the shapes that their documentation shows.

use super::*;
use crate::usage::detect;

fn read(id: &str, path: &str, request: &'static str, answer: &str) -> (RequestFacts, Reading) {
    let api = api(id).unwrap();
    let (dialect, endpoint) = detect(Some(api), "POST", path);
    let call = Call::new(endpoint, path);
    let facts = dialect.request(&call, &Bytes::from_static(request.as_bytes())).unwrap();
    let mut reader = dialect.reader(&call, &facts, AnswerHead::new(200, "application/json"));
    reader.feed(answer.as_bytes());
    (facts, reader.finish(BodyEnd::Complete))
}

#[test]
fn a_search_costs_what_the_answer_or_else_the_request_says() {
    let units = |request, answer| read("tavily", "/search", request, answer).1.units["credits"];
    assert_eq!(units(r#"{"query":"a"}"#, r#"{"results":[]}"#), Quantity::whole(1));
    assert_eq!(units(r#"{"query":"a","search_depth":"advanced"}"#, "{}"), Quantity::whole(2));
    assert_eq!(units(r#"{"query":"a"}"#, r#"{"usage":{"credits":2}}"#), Quantity::whole(2));
    let (_, crawl) = read("firecrawl", "/v2/crawl", r#"{"url":"a","limit":7}"#, r#"{"success":true,"id":"1"}"#);
    assert_eq!((crawl.quality, crawl.units["credits"]), (Quality::Estimated, Quantity::whole(7)));
    let (facts, reading) = read("serper", "/search", "{}", r#"{"credits":1}"#);
    assert_eq!((reading.quality, reading.units["credits"]), (Quality::Exact, Quantity::whole(1)));
    assert!(facts.units["credits"] >= reading.units["credits"]);
}

#[test]
fn a_charge_that_the_answer_states_is_taken() {
    let (facts, reading) = read("exa", "/search", "{}", r#"{"costDollars":{"total":0.007}}"#);
    assert_eq!(reading.reported, Some("0.007".parse().unwrap()));
    assert_eq!(facts.variant.as_deref(), Some("search"));
    let (_, silent) = read("exa", "/search", "{}", "{}");
    assert_eq!((silent.quality, silent.reported), (Quality::Estimated, None));
}

#[test]
fn what_is_no_priced_call_is_left_to_others() {
    let billing = |id: &str, method, path| detect(Some(api(id).unwrap()), method, path).1.billing;
    assert_eq!(billing("tavily", "GET", "/usage"), Billing::Free);
    assert_eq!(billing("tavily", "POST", "/something/new"), Billing::Unknown);
    assert_eq!(billing("brave", "GET", "/res/v1/web/search"), Billing::Metered);
    assert_eq!(billing("jina", "GET", "/https://example.com/"), Billing::Metered);
    assert_eq!(billing("firecrawl", "GET", "/v2/crawl/1"), Billing::Free);
}

#[test]
fn a_paid_call_in_another_spelling_is_not_free() {
    let billing = |id: &str, method, path: &str| detect(Some(api(id).unwrap()), method, path).1.billing;
    for path in [
        "/%72es/v1/web/search",
        "//res/v1/web/search",
        "/res//v1/web/search",
        "/x/../res/v1/web/search",
        "/./res;a=1/v1/web/search",
        "/x\\..\\res/v1/web/search",
        "/RES/v1/web/search",
    ] {
        assert_eq!(billing("brave", "GET", path), Billing::Metered, "{path}");
    }
    assert_eq!(billing("serpapi", "GET", "/%73earch.json"), Billing::Metered);
    assert_eq!(billing("serpapi", "GET", "/account%"), Billing::Free);
    assert_eq!(billing("tavily", "POST", "/sear%63h"), Billing::Metered);
}

#[test]
fn every_row_has_a_price_and_a_bound() {
    for api in APIS {
        assert!(!api.hosts.is_empty() && api.worst().is_positive(), "{}", api.id);
        for call in api.calls {
            assert!(call.price.is_positive() && call.most >= call.each && call.each > 0, "{} {}", api.id, call.name);
            assert_eq!(api.calls.iter().filter(|c| c.name == call.name).count(), 1, "{}", call.name);
        }
    }
}

#[test]
fn an_error_costs_nothing() {
    let api = api("exa").unwrap();
    let call = Call::new(api.endpoint("POST", "/search").unwrap(), "/search");
    let facts = api.request(&call, &Bytes::new()).unwrap();
    let mut reader = api.reader(&call, &facts, AnswerHead::new(429, "application/json"));
    assert!(reader.finish(BodyEnd::Complete).is_empty());
}

#[test]
fn a_config_that_says_the_same_again_makes_nothing_anew() {
    let call = |path: &str| OwnCall {
        path: path.to_owned(),
        unit: "pages".to_owned(),
        price: Pico::new(7),
        pointer: Some("/pages".to_owned()),
        most: 3,
    };
    let of = |category: &str, calls: &[OwnCall]| Api::of_config("again.example", category, calls);
    let first = of("files", &[call("/read"), call("/write")]);
    assert!(std::ptr::eq(first, of("files", &[call("/read"), call("/write")])));
    for other in [
        of("web", &[call("/read"), call("/write")]),
        of("files", &[call("/read")]),
        of("files", &[call("/write"), call("/read")]),
        of("files", &[call("/read"), OwnCall { pointer: None, ..call("/write") }]),
        of("files", &[call("/read"), OwnCall { price: Pico::new(8), ..call("/write") }]),
    ] {
        assert_ne!(first, other);
    }
}
