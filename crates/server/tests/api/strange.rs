//! Flows that this build does not know.

use axum::http::StatusCode;
use stackpro_server::flows::{SUSPEND, known, registry, strange};

use crate::common::Server;
use crate::pages::operator;

#[tokio::test]
async fn what_waits_for_another_build_is_shown_as_that() {
    let server = Server::start().await;
    let olga = operator(&server).await;
    let world = &server.world;
    let acme = server.sign_up("Acme Law").await;
    let client = acme["clientId"].as_str().unwrap();
    // No flow runs here, so this one is the first of a subject of its own.
    let mut new = SUSPEND.begin("f-strange".parse().unwrap(), "acme-strange", &client, world.now()).unwrap();
    new.flow.version = 7;
    let mut tx = world.store.begin().await.unwrap();
    tx.enqueue_flow(new).await.unwrap();
    tx.commit().await.unwrap();

    assert_eq!(known().len(), registry().unwrap().flows().len());
    let list = olga.get("/console/flows").await.text;
    assert_eq!(list.matches("waits for a node that knows suspend v7").count(), 1, "{list}");
    assert!(!list.contains("knows provision"), "what is known waits for nobody: {list}");
    let page = olga.get("/console/flows/f-strange").await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.text.contains("It waits for a node that knows suspend v7."), "{}", page.text);
    // A minute is what a deployment may take.
    assert!(strange(&world.store, 9).await.unwrap().is_empty());
    assert!(olga.get("/console").await.text.contains("All is well"));
    let now = world.store.strange_flows(known(), 0, 9).await.unwrap();
    assert_eq!(now.iter().map(stackpro_flow::Flow::name).collect::<Vec<_>>(), ["suspend v7"]);
}
