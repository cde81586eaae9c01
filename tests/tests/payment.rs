//! Who else pays: a payment that the request carries, and a subscription.

use meter_tests::harness::{
    Lab, LabOptions,
    chat::{curl, status},
    pico,
};

const URL: &str = "https://api.openai.com/paid";
/// A payment of $0.01 in a dollar coin, as version 1 writes it, and the same in a coin that is none.
const CENT: &str =
    r#"{"x402Version":1,"scheme":"exact","network":"base","payload":{"authorization":{"value":"10000"}}}"#;
const UNREADABLE: &str = r#"{"x402Version":1,"payload":{"asset":"0xother","amount":"1"}}"#;

fn pay(payment: Option<&str>) -> String {
    let header =
        payment.map(|json| format!("-H \"x-payment: $(printf %s '{json}' | base64 -w0)\"")).unwrap_or_default();
    format!("curl -sS --max-time 60 {header} -w '\\n%{{http_code}}\\n' {URL}")
}

#[test]
fn a_payment_is_held_and_its_settlement_is_a_row() {
    let lab = Lab::with_budget("payer", "0.015");
    let agent = lab.agent("payer");
    assert_eq!(status(&agent.shell(&pay(None)).stdout), 402);
    assert_eq!(lab.daemon.account("payer").spent(), 0, "an offer costs nothing");
    let printed = agent.shell(&pay(Some(CENT)));
    assert!(status(&printed.stdout) == 200 && printed.stdout.contains("worth a cent"), "{printed:#?}");
    assert_eq!(lab.daemon.account("payer").spent(), pico("0.01"));
    // What is left is less than the price.
    let refused = agent.shell(&pay(Some(CENT)));
    assert!(status(&refused.stdout) == 402 && refused.stdout.contains("$0.01 needed"), "{refused:#?}");
    assert_eq!(lab.simulator.exchanges().len(), 2, "the second payment left the machine");

    let rows = lab.daemon.ledger("payer");
    let told: Vec<_> = rows.iter().map(|row| (row.outcome.as_str(), row.category.as_str(), row.cost())).collect();
    let cent = pico("0.01");
    assert_eq!(
        told[..3],
        [("upstream_error", "llm", 0), ("complete", "x402", cent), ("refused_budget", "x402", 0)],
        "{rows:#?}"
    );
    assert_eq!(rows[1].price, "provider");
}

#[test]
fn a_payment_whose_worth_is_not_known_stays_here() {
    let lab = Lab::with_budget("payer", "1");
    let printed = lab.agent("payer").shell(&pay(Some(UNREADABLE)));
    assert_eq!(status(&printed.stdout), 402, "{printed:#?}");
    assert!(lab.simulator.exchanges().is_empty());
    assert_eq!(lab.daemon.ledger("payer")[0].outcome, "refused_request");
}

#[test]
fn a_subscription_pays_and_its_list_price_is_told() {
    let lab = Lab::start(LabOptions::default().budget("plan", "0.000001"));
    let body = r#"{"model":"claude-haiku-4-5","max_tokens":50,"messages":[{"role":"user","content":"hi"}]}"#;
    let options = "-H 'anthropic-beta: oauth-2025-04-20' -H 'anthropic-version: 2023-06-01'";
    let line = curl("https://api.anthropic.com/v1/messages", body, options);
    let line = line.replace("Bearer test-key", "Bearer sk-ant-oat01-test");
    let printed = lab.agent("plan").shell(&line);
    assert_eq!(status(&printed.stdout), 200, "{printed:#?}");
    let rows = lab.daemon.ledger("plan");
    assert_eq!((rows.len(), rows[0].price.as_str(), rows[0].cost()), (1, "plan", 0), "{rows:#?}");
    assert!(rows[0].notional_usd.as_deref().is_some_and(|usd| pico(usd) > 0), "{rows:#?}");
    assert_eq!(lab.daemon.account("plan").spent(), 0);
}
