//! Prices of a running daemon: an imported list counts from the next request on, and a bad one changes nothing.

use meter_tests::harness::{
    Lab, Shell,
    chat::{Chat, status},
};

/// A model that nobody else sells.
const MODEL: &str = "house-model-1";
/// $2 and $8 per million tokens.
const LIST: &str = r#"{"house-model-1": {"litellm_provider": "openai", "mode": "chat",
    "input_cost_per_token": 0.000002, "output_cost_per_token": 0.000008}}"#;

#[test]
fn an_imported_list_prices_the_next_request_without_a_restart() {
    let lab = Lab::with_budget("prices", "1000");
    let mut shell = Shell::open(&lab.agent("prices"));
    let chat = Chat { model: MODEL.to_owned(), ..Chat::ordinary() };
    let mut ask = || assert_eq!(status(&shell.run(&chat.curl()).stdout), 200);
    ask();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("list.json");
    let import = |text: &str| {
        std::fs::write(&file, text).unwrap();
        lab.daemon.output("prices", &["import", &file.display().to_string()])
    };

    let refused = import(&LIST.replace("0.000008", "-1"));
    assert!(!refused.status.success(), "{refused:?}");
    ask();
    let taken = import(LIST);
    assert!(taken.status.success(), "{taken:?}");
    ask();

    let rows = lab.daemon.ledger("prices");
    let prices: Vec<&str> = rows.iter().map(|row| row.price.as_str()).collect();
    assert_eq!(prices, ["unpriced", "unpriced", "priced"]);
    // 300 tokens in, 200 out.
    assert_eq!(rows[2].cost_usd, "0.0022");
}
