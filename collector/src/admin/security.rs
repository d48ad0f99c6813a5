//! Security events and windows.

use extranet_proto::wire;
use extranet_proto::wire::log_record::Input;
use tonic::Status;

use super::Admin;

/// Longest reason of a closing, characters.
const REASON: usize = 200;

impl Admin {
    pub(super) async fn list_security_events(
        &self,
        request: wire::SecurityEventsRequest,
    ) -> Result<wire::SecurityEventsReply, Status> {
        let events = self
            .read(move |store| store.security_events(&request))
            .await?;
        Ok(wire::SecurityEventsReply { events })
    }

    pub(super) async fn close_event(
        &self,
        request: wire::CloseSecurityEventRequest,
    ) -> Result<wire::CloseSecurityEventReply, Status> {
        let wire::CloseSecurityEventRequest {
            event_id,
            reason,
            actor,
        } = request;
        let reason = reason.trim().to_owned();
        if reason.is_empty() || reason.chars().count() > REASON {
            return Err(Status::invalid_argument(format!(
                "a reason is needed, of at most {REASON} characters"
            )));
        }
        let found = self
            .read(move |store| store.security_event(event_id))
            .await?;
        let Some((event, rule)) = found else {
            return Err(Status::not_found(format!(
                "there is no security event {event_id}"
            )));
        };
        if event.state == "closed" {
            return Err(Status::failed_precondition(format!(
                "security event {event_id} is closed already"
            )));
        }
        tracing::info!(event_id, actor, reason, "security event closed by hand");
        self.log(Input::SecurityEventClosed(wire::SecurityEventClosed {
            actor,
            ap_id: event.ap_id.clone(),
            rule: rule.number().into(),
            object: event.object.clone(),
            reason,
        }))
        .await?;
        Ok(wire::CloseSecurityEventReply { event: Some(event) })
    }

    pub(super) async fn add_window(
        &self,
        request: wire::AddSecurityWindowRequest,
    ) -> Result<wire::AddSecurityWindowReply, Status> {
        let planned = self
            .read(move |store| store.plan_security_window(&request))
            .await?;
        match planned {
            Ok(window) => {
                let service = window.service.clone();
                tracing::info!(
                    ap_id = window.ap_id,
                    service,
                    actor = window.actor,
                    "security window registered"
                );
                self.log(Input::SecurityWindowAdded(window)).await?;
                Ok(wire::AddSecurityWindowReply {
                    service,
                    problems: Vec::new(),
                })
            }
            Err(problems) => Ok(wire::AddSecurityWindowReply {
                service: String::new(),
                problems,
            }),
        }
    }

    pub(super) async fn list_windows(&self) -> Result<wire::SecurityWindowsReply, Status> {
        let windows = self.read(crate::store::Store::security_windows).await?;
        Ok(wire::SecurityWindowsReply { windows })
    }
}
