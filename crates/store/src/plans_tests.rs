//! What is asked often is answered from an index, on both databases: never by reading a whole table.

use std::sync::Arc;

use stackpro_domain::{Clock, Time};

use crate::db::Conn;
use crate::error::Result;
use crate::query::{Record, Row, Statement, among, among_after, q};
use crate::{
    Options, Store, costs, flows, instances, journal, mail_events, mails, members, records, reversals, till, usages,
};

struct Still;

impl Clock for Still {
    fn now(&self) -> Time {
        Time(0)
    }
}

/// One line of a plan.
struct Line(String);

impl Record for Line {
    fn read(row: &Row<'_>) -> Result<Self> {
        let column = if matches!(row, Row::Pg(_)) { "QUERY PLAN" } else { "detail" };
        row.text(column).map(Self)
    }
}

/// Each with what its plan must name.
fn asked_often() -> Vec<(&'static str, Statement)> {
    let at = Time(1);
    vec![
        ("clients_next_at", q(crate::clients::DUE).bind(at).bind(10_i64)),
        ("clients_next_at", q(crate::clients::NEXT_DATE).bind(at)),
        ("clients_next_at", q(crate::clients::NEXT_DUE)),
        ("", q(crate::clients::BY_ID).bind("c")),
        ("clients_host", q(crate::clients::ID_BY_HOST).bind("h")),
        ("clients_customer_id", q(crate::clients::BY_CUSTOMER).bind("c")),
        ("clients_customer_id", q(crate::clients::OF_THE_TILL).bind("c").bind(10_i64)),
        ("flows_next_at", among_after(vec![at.into(), 10_i64.into()], journal::DUE.0, ["a v1"], journal::DUE.1)),
        ("flows_next_at", among_after(vec![at.into()], journal::ANY_DUE.0, ["a v1", "b v1"], journal::ANY_DUE.1)),
        ("flows_next_at", among_after(vec![at.into(), 10_i64.into()], flows::STRANGE.0, ["a v1"], flows::STRANGE.1)),
        ("steps_lease", q(journal::LEASES).bind(at)),
        ("", among(records::STEPS.0, ["a", "b", "c"], records::STEPS.1)),
        ("flows_unfinished", q(flows::UNFINISHED).bind("c")),
        ("flows_subject_place", q(flows::NEWEST).bind("c").bind(1_i64)),
        ("flows_untold", q(flows::UNTOLD).bind(10_i64)),
        ("till_events_untold", q(till::UNTOLD).bind(10_i64)),
        ("mails_next_at", q(mails::ANY_DUE).bind(at)),
        ("mails_next_at", q(mails::DUE).bind(at).bind(10_i64)),
        ("mails_created", q(mails::LINES).bind(at).bind("m").bind(10_i64)),
        ("mails_state", q(mails::LINES_IN_STATE).bind(at).bind("m").bind(10_i64).bind("bounced")),
        ("mails_client", q(mails::LINES_OF_CLIENT).bind(at).bind("m").bind(10_i64).bind("c")),
        ("mail_events_client", q(mail_events::EMAILS_SINCE).bind("c").bind(at)),
        ("mails_messages", q(mail_events::EMAILS_SINCE).bind("c").bind(at)),
        ("mail_events_mail", q(mail_events::OF_MAIL).bind("m")),
        ("suppressions_since", q(mail_events::SUPPRESSIONS).bind(at).bind("a").bind(10_i64)),
        ("till_events_next_at", q(till::DUE).bind(at).bind(10_i64)),
        ("till_events_parked", q(till::PARKED).bind(10_i64)),
        ("sessions_refresh_hash", q(members::SESSION_BY_HASH).bind("h")),
        ("members_client", q(members::MEMBER_COUNT).bind("c")),
        ("", q(usages::USAGE).bind("c")),
        ("", q(usages::MONTHS).bind("c").bind(10_i64)),
        ("instances_released", q(costs::INSTANCES).bind(at).bind(at)),
        ("placements_", q(costs::STAYS).bind(at).bind(at)),
        ("terms_", q(costs::TERMS).bind(at).bind(at)),
        ("reversals_created", q(costs::RETURNED).bind(at).bind(at)),
        ("reversals_client", q(reversals::OF_CLIENT).bind("c").bind(10_i64)),
        ("reversals_answer", q(reversals::UNANSWERED).bind(10_i64)),
        ("usage_months_month", q(costs::USED).bind(at)),
        ("usage_months_month", q(costs::TRAFFIC).bind(at)),
        ("", q(instances::BY_ID).bind("i")),
        ("instances_kind", q(instances::OPEN)),
    ]
}

async fn check(url: &str) {
    let store = Store::open(url, Options { connections: 1, ..Options::new(Arc::new(Still)) }).await.unwrap();
    let mut conn = store.read().await.unwrap();
    if let Conn::Pg(_) = conn {
        // On small tables PostgreSQL reads the whole table unless it is told not to; if it still does, it has no index.
        q("SET enable_seqscan = off").run(&mut conn).await.unwrap();
    }
    for (index, statement) in asked_often() {
        let lines: Vec<Line> = statement.explained(&conn).all(&mut conn).await.unwrap();
        let plan: Vec<&str> = lines.iter().map(|line| line.0.as_str()).collect();
        let plan = plan.join("\n");
        assert!(plan.contains(index), "{index} is not used:\n{plan}");
        let scans = plan.lines().any(|line| line.starts_with("SCAN") || line.contains("Seq Scan"));
        assert!(!scans, "a whole table is read:\n{plan}");
    }
}

/// 20,000 clients, of whom 100 are due.
const MANY: &str = "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 20000) \
    INSERT INTO clients (id, company, plan, state, life, next_at, stack, host, portal_rotation, created_at) \
    SELECT 'client-' || n, 'Company', 'starter', 'trial', '{}', CASE WHEN n <= 100 THEN n ELSE 1000000 + n END, 'ready', \
    'host-' || n, 0, 0 FROM numbers";

/// With the statistics that both databases plan by, and nothing forbidden: of many clients the due ones alone are
/// read, in their order.
async fn check_due(url: &str) {
    let store = Store::open(url, Options { connections: 1, ..Options::new(Arc::new(Still)) }).await.unwrap();
    let mut tx = store.begin().await.unwrap();
    q(MANY).run(&mut tx.conn).await.unwrap();
    tx.commit().await.unwrap();
    let mut tx = store.begin().await.unwrap();
    q("ANALYZE").run(&mut tx.conn).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(store.due_clients(Time(1_000), 500).await.unwrap().len(), 100);
    let mut conn = store.read().await.unwrap();
    let due = q(crate::clients::DUE).bind(Time(1_000)).bind(500_i64);
    let lines: Vec<Line> = due.explained(&conn).all(&mut conn).await.unwrap();
    let plan: Vec<&str> = lines.iter().map(|line| line.0.as_str()).collect();
    let plan = plan.join("\n");
    let (search, condition) = match conn {
        Conn::Pg(_) => ("Index Scan using clients_next_at", "Index Cond: (next_at <="),
        _ => ("SEARCH clients USING INDEX clients_next_at", "(next_at<?)"),
    };
    assert!(plan.contains(search) && plan.contains(condition), "{plan}");
    for wasteful in ["Seq Scan", "SCAN", "Sort", "TEMP B-TREE", "Filter"] {
        assert!(!plan.contains(wasteful), "{plan}");
    }
}

#[tokio::test]
async fn sqlite_reads_of_many_clients_the_due_ones_alone() {
    let folder = tempfile::tempdir().unwrap();
    check_due(&format!("sqlite:{}", folder.path().join("x.db").display())).await;
}

#[tokio::test]
async fn postgres_reads_of_many_clients_the_due_ones_alone() {
    check_due(&stackpro_testkit::postgres::database().await).await;
}

#[tokio::test]
async fn sqlite_reads_by_index() {
    let folder = tempfile::tempdir().unwrap();
    check(&format!("sqlite:{}", folder.path().join("x.db").display())).await;
}

#[tokio::test]
async fn postgres_reads_by_index() {
    check(&stackpro_testkit::postgres::database().await).await;
}
