//! What a client costs, as the command line says it of a real one.

use serde_json::Value;
use stackpro_domain::prices::DEFAULT_PRICES;

use crate::product;

#[tokio::test]
async fn who_moved_costs_both_parts_and_what_has_no_price_is_unknown() {
    let mut app = product().start().await;
    let person = app.sign_up("Acme Law").await;
    app.wait_for(&person, "ready", "shared").await;
    app.pay(&person, "starter").await;
    app.wait_for(&person, "ready", "dedicated").await;

    let show = ["clients", "show", &person.client, "--json"];
    let shown = app.command_json(&show);
    let parts = shown["costs"].as_array().unwrap();
    let of = |what: &str| parts.iter().filter(|part| part["what"] == what).cloned().collect::<Vec<Value>>();
    assert_eq!(of("instance").len(), 2, "{shown}");
    assert!(of("instance").iter().all(|part| part["micros"].is_i64()), "{shown}");
    let (so_far, projected) = (&shown["month"]["soFar"], &shown["month"]["projected"]);
    let number = |value: &Value| value.as_i64().unwrap_or_else(|| panic!("{shown}"));
    assert_eq!(number(&so_far["marginCents"]), number(&so_far["revenueCents"]) - number(&so_far["costCents"]));
    assert!(number(&projected["costCents"]) >= number(&so_far["costCents"]), "{shown}");
    assert!(number(&projected["revenueCents"]) > 0, "{shown}");
    let listed = app.command_json(&["clients", "list", "--json"]);
    assert_eq!(listed[0]["month"]["from"], shown["month"]["from"]);
    let table = String::from_utf8(app.command(&["clients", "list"]).stdout).unwrap();
    assert!(table.contains("margin") && table.contains('$'), "{table}");

    let file = app.data().join("prices.toml");
    std::fs::write(&file, DEFAULT_PRICES.replace("\"t3.micro\" = 0.0104\n", "")).unwrap();
    app.set_env("STACKPRO_PRICES", Some(file.to_str().unwrap()));
    let shown = app.command_json(&show);
    assert!(shown["month"]["soFar"]["costCents"].is_null() && shown["month"]["soFar"]["marginCents"].is_null());
    let doctor: Value = serde_json::from_slice(&app.command(&["doctor", "--json"]).stdout).unwrap();
    let prices = doctor.as_array().unwrap().iter().find(|check| check["check"] == "prices").unwrap();
    let said = prices["detail"].as_str().unwrap();
    assert!(prices["ok"] == false && said.contains("t3.micro (plan starter) has no price"), "{said}");

    std::fs::write(&file, DEFAULT_PRICES.replace("0.0104", "cheap")).unwrap();
    let refused = app.command(&["clients", "list"]);
    app.set_env("STACKPRO_PRICES", None);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && said.contains("prices.toml") && said.contains("price file"), "{said}");
}

#[tokio::test]
async fn the_command_line_gives_a_plan_for_nothing() {
    let app = product().start().await;
    let person = app.sign_up("Acme Law").await;
    app.wait_for(&person, "ready", "shared").await;
    let give = ["clients", "give-plan", &person.client];
    for (arguments, said) in [
        (vec!["platinum"], "starter, business, enterprise"),
        (vec!["business", "--until", "2001-01-01"], "a day ahead"),
        (vec!["business", "--until", "soon"], "a day ahead"),
    ] {
        let refused = app.command(&[&give[..], &arguments].concat());
        let text = String::from_utf8(refused.stderr).unwrap();
        assert!(!refused.status.success() && text.contains(said), "{arguments:?}: {text}");
    }
    let given = app.command(&[&give[..], &["business", "--until", "2099-01-01"]].concat());
    assert!(given.status.success(), "{}", String::from_utf8_lossy(&given.stderr));
    app.wait_for(&person, "ready", "dedicated").await;
    let shown = app.command_json(&["clients", "show", &person.client, "--json"]);
    assert_eq!((shown["plan"].as_str(), shown["life"]["state"].as_str()), (Some("business"), Some("active")));
    assert!(shown["life"]["given"]["until"].is_number() || shown["life"]["given"]["until"].is_string(), "{shown}");
    assert_eq!(shown["month"]["projected"]["revenueCents"], 0, "{shown}");
}
