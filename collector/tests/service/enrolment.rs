//! Tickets, certificates, revocation.

use extranet_agent::identity::ticket::Ticket;
use extranet_proto::id::ApId;
use extranet_proto::wire;
use extranet_proto::wire::admin_server::Admin;
use tonic::{Code, Request};

use crate::place::{Site, hello};

const HOUR_US: i64 = 3_600_000_000;

#[tokio::test]
async fn a_ticket_becomes_a_certificate_once() {
    let site = Site::start().await;
    let ticket = site.ticket("ap-1").await;
    let identity = site.enrol(&ticket).await.unwrap();
    assert!(identity.agent_id.as_str().starts_with("ap-1-"));
    let (_stream, welcome) = site.greet(&identity, hello(1)).await;
    assert_eq!(welcome.protocol, 1);
    let again = site.enrol(&ticket).await.unwrap_err().to_string();
    assert!(again.contains("used already"), "{again}");
    site.await_counter(
        "extranet_collector_enrol_refused_total{reason=\"used_ticket\"}",
        1,
    )
    .await;
}

#[tokio::test]
async fn an_enrolment_whose_answer_was_lost_can_be_asked_for_again_with_the_same_key() {
    let site = Site::start().await;
    let ticket = site.ticket("ap-1").await;
    let key = rcgen::KeyPair::generate().unwrap();
    let lost = site.enrol_with(&ticket, &key).await.unwrap();
    let identity = site.enrol_with(&ticket, &key).await.unwrap();
    assert_eq!(identity.agent_id, lost.agent_id);
    let (_stream, _) = site.greet(&identity, hello(1)).await;
    // Nobody else, and not when the ticket has expired or the agent was revoked.
    let refused = site.enrol(&ticket).await.unwrap_err().to_string();
    assert!(refused.contains("used already"), "{refused}");
    let revoke = wire::RevokeAgentRequest {
        agent_id: identity.agent_id.to_string(),
        actor: "test".to_owned(),
    };
    let admin = &site.running().admin;
    admin.revoke_agent(Request::new(revoke)).await.unwrap();
    let refused = site.enrol_with(&ticket, &key).await.unwrap_err();
    assert!(refused.to_string().contains("revoked"), "{refused}");
    site.clock.step_wall(25 * HOUR_US);
    let refused = site.enrol_with(&ticket, &key).await.unwrap_err();
    assert!(refused.to_string().contains("expired"), "{refused}");
}

#[tokio::test]
async fn bad_tickets_are_refused_with_a_reason_that_helps() {
    let site = Site::start().await;
    let good = site.ticket("ap-1").await;
    let wrong_secret = Ticket {
        secret: [0; 16],
        ..good.clone()
    };
    let other_place = Ticket {
        ap_id: ApId::new("ap-2").unwrap(),
        ..good.clone()
    };
    for (ticket, said) in [
        (&wrong_secret, "not known"),
        (&other_place, "another access point"),
    ] {
        let error = site.enrol(ticket).await.unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    // An agent trusts only the collector its ticket is for.
    let elsewhere = Ticket {
        ca_fingerprint: [0; 32],
        ..good.clone()
    };
    site.enrol(&elsewhere).await.unwrap_err();
    site.clock.step_wall(25 * HOUR_US);
    let error = site.enrol(&good).await.unwrap_err().to_string();
    assert!(error.contains("expired"), "{error}");
}

#[tokio::test]
async fn a_ticket_is_for_an_access_point_that_exists() {
    let site = Site::start().await;
    let request = wire::NewTicketRequest {
        ap_id: "nowhere".to_owned(),
        valid_hours: 1,
    };
    let refused = site
        .running()
        .admin
        .new_ticket(Request::new(request))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
}

#[tokio::test]
async fn two_agents_cannot_share_a_ticket_even_at_the_same_moment() {
    let site = Site::start().await;
    let ticket = site.ticket("ap-1").await;
    let (first, second) = tokio::join!(site.enrol(&ticket), site.enrol(&ticket));
    assert!(
        first.is_ok() != second.is_ok(),
        "exactly one: {first:?} {second:?}"
    );
}

#[tokio::test]
async fn a_certificate_is_renewed_with_a_new_key_also_when_it_has_lapsed() {
    let site = Site::start().await;
    let identity = site.agent("ap-1").await;
    let renewed = site.renew(&identity).await.unwrap();
    assert_eq!(renewed.agent_id, identity.agent_id);
    site.clock.step_wall(370 * 24 * HOUR_US);
    let late = site.renew(&renewed).await.unwrap();
    assert!(late.not_after_us() > renewed.not_after_us());
}

#[tokio::test]
async fn revocation_closes_the_stream_and_keeps_the_agent_out() {
    let site = Site::start().await;
    let identity = site.agent("ap-1").await;
    let (mut stream, _) = site.greet(&identity, hello(1)).await;
    let request = wire::RevokeAgentRequest {
        agent_id: identity.agent_id.to_string(),
        actor: "test".to_owned(),
    };
    let reply = site
        .running()
        .admin
        .revoke_agent(Request::new(request))
        .await
        .unwrap();
    assert!(reply.into_inner().was_connected);
    assert_eq!(stream.end().await.code(), Code::PermissionDenied);
    // A valid chain is not enough, nor is a resumed session.
    let Err(status) = site.open(&identity).await else {
        panic!("a revoked agent was let in")
    };
    assert_eq!(status.code(), Code::PermissionDenied);
    let refused = site.renew(&identity).await.unwrap_err().to_string();
    assert!(refused.contains("revoked"), "{refused}");
}

#[tokio::test]
async fn an_agent_that_a_restored_catalogue_does_not_know_is_entered_again() {
    let mut site = Site::start().await;
    let identity = site.agent("ap-1").await;
    site.stop().await;
    // Log and catalogue come from a backup that is older than the enrolment; the authority is the same.
    let state = site.config.state_dir.clone();
    std::fs::remove_dir_all(state.join("ingest")).unwrap();
    for entry in std::fs::read_dir(&state).unwrap().map(Result::unwrap) {
        if entry
            .file_name()
            .to_string_lossy()
            .starts_with("catalogue.sqlite")
        {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    site.resume().await;
    site.import().await;
    let (_stream, _) = site.greet(&identity, hello(1)).await;
    let agent = identity.agent_id.clone();
    assert_eq!(
        site.running()
            .admin
            .store
            .agent(&agent)
            .unwrap()
            .unwrap()
            .ap_id
            .as_str(),
        "ap-1"
    );
}
