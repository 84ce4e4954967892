//! Where this machine stands, by metadata services that answer, lie, are slow or are not there.

use std::net::SocketAddr;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use probe::discovery::cloud::{Service, Settings, Whereabouts, Why, ask};
use probe::mesh::roster::{Claim, RegionName};

use crate::house::closed_port;
use crate::metadata_server::{
    Answer, MetadataServer, Request, azure, captive_proxy, compute_engine, ec2, ok, status,
};

/// Nobody is anywhere, until a test says so.
fn nowhere() -> Settings {
    let closed = SocketAddr::from(([127, 0, 0, 1], closed_port()));
    Settings {
        timeout: Duration::from_secs(10),
        aws: vec![closed],
        gcp: closed,
        azure: closed,
        ..Settings::default()
    }
}

fn claim(trust: u8, by: &str, region: &str, zone: Option<&str>) -> Claim {
    let (provider, region) = region.split_once('/').unwrap();
    Claim {
        trust,
        by: by.to_owned(),
        region: RegionName { provider: Some(provider.to_owned()), region: region.to_owned() },
        zone: zone.map(str::to_owned),
    }
}

fn why(found: &Whereabouts, service: Service) -> &Why {
    &found.not_found.iter().find(|missing| missing.service == service).expect("it told").why
}

/// All three at once are this; the settings of each test of lies.
async fn asked_of_all(limit: Duration, behave: fn(&Request) -> Answer) -> Whereabouts {
    let server = MetadataServer::start(behave);
    let at = server.address;
    let ecs = Some(format!("http://{at}/v4/abc"));
    ask(&Settings { timeout: limit, aws: vec![at], gcp: at, azure: at, ecs, ..Settings::default() }).await
}

const ALL: [Service; 4] = [Service::Aws, Service::Ecs, Service::Gcp, Service::Azure];

#[tokio::test]
async fn ec2_tells_region_zone_id_and_instance_to_whoever_has_a_token() {
    let server = MetadataServer::start(ec2("us-east-1", "us-east-1a"));
    let found = ask(&Settings { aws: vec![server.address], ..nowhere() }).await;
    assert_eq!(found.claims, [claim(4, "AWS IMDSv2", "aws/us-east-1", Some("use1-az4"))]);
    assert_eq!(found.instance.as_deref(), Some("i-0123456789abcdef0"));
    assert_eq!(found.zone_name.as_deref(), Some("us-east-1a"));
    assert_eq!(found.explanation(), None);
    let first = &server.requests()[0];
    assert_eq!((first.method.as_str(), first.path.as_str()), ("PUT", "/latest/api/token"));
}

#[tokio::test]
async fn of_two_addresses_of_ec2_the_one_that_answers_is_believed() {
    let silent = MetadataServer::start(|_| Answer::Silence);
    let server = MetadataServer::start(ec2("eu-west-1", "eu-west-1b"));
    for aws in [vec![silent.address, server.address], vec![server.address, silent.address]] {
        let found = ask(&Settings { aws, ..nowhere() }).await;
        assert_eq!(found.claims[0].region.region, "eu-west-1");
    }
}

#[tokio::test]
async fn google_tells_the_zone_or_in_a_cluster_at_least_the_clusters_place() {
    for (zone, cluster, region, expected_zone) in [
        ("projects/123/zones/us-central1-a", None, "gcp/us-central1", Some("us-central1-a")),
        (
            "projects/123/zones/europe-west12-c",
            Some("asia-east1"),
            "gcp/europe-west12",
            Some("europe-west12-c"),
        ),
        ("", Some("europe-west4"), "gcp/europe-west4", None),
        ("", Some("europe-west4-b"), "gcp/europe-west4", Some("europe-west4-b")),
    ] {
        let server = MetadataServer::start(compute_engine(zone, cluster));
        let found = ask(&Settings { gcp: server.address, ..nowhere() }).await;
        assert_eq!(found.claims, [claim(4, "GCP metadata server", region, expected_zone)]);
        assert_eq!(found.instance.as_deref(), Some("1234567890123456789"));
    }
    let server = MetadataServer::start(compute_engine("", None));
    let found = ask(&Settings { gcp: server.address, ..nowhere() }).await;
    assert_eq!(*why(&found, Service::Gcp), Why::Status(404));
}

#[tokio::test]
async fn azure_tells_the_region_and_the_zone_as_its_nodes_labels_do() {
    for (zone, expected) in [("2", Some("westeurope-2")), ("", None), ("<b>", None)] {
        let server = MetadataServer::start(azure("westeurope", zone));
        let found = ask(&Settings { azure: server.address, ..nowhere() }).await;
        assert_eq!(found.claims, [claim(4, "Azure IMDS", "azure/westeurope", expected)]);
        assert_eq!(found.instance.as_deref(), Some("02aab8a4-74ef-476e-8182-f6d2ba4166a6"));
        assert_eq!(server.requests()[0].header("metadata"), Some("true"));
    }
}

#[tokio::test]
async fn ecs_is_asked_where_the_environment_says_and_only_near_by() {
    let server = MetadataServer::start(|request| match request.path.as_str() {
        "/v4/abc/task" => ok(
            r#"{"Cluster":"c","TaskARN":"arn:aws:ecs:us-west-2:123456789012:task/c/1","AvailabilityZone":"us-west-2b"}"#,
        ),
        _ => status(404),
    });
    let with = |ecs: String| {
        let found = Settings::from_environment(|name| match name {
            "ECS_CONTAINER_METADATA_URI_V4" => Some(ecs.clone()),
            _ => None,
        });
        Settings { ecs: found.ecs, ..nowhere() }
    };
    let found = ask(&with(format!("http://{}/v4/abc", server.address))).await;
    assert_eq!(found.claims, [claim(4, "ECS task metadata", "aws/us-west-2", None)]);
    assert_eq!(found.zone_name.as_deref(), Some("us-west-2b"));
    for far in ["http://192.0.2.1/v4/abc", "http://metadata.example.com/v4", "https://169.254.170.2/v4/abc"] {
        assert_eq!(*why(&ask(&with(far.to_owned())).await, Service::Ecs), Why::Far, "{far}");
    }
    for none in ["nonsense", "http://user:hunter2@169.254.170.2/"] {
        let found = ask(&with(none.to_owned())).await;
        assert_eq!(*why(&found, Service::Ecs), Why::NoAddress);
        assert!(!format!("{found:?}").contains("hunter2"));
    }
}

#[tokio::test]
async fn the_environments_region_is_a_claim_of_little_trust_that_explains_nothing_away() {
    let settings = |value: &'static str| {
        let from = Settings::from_environment(|name| (name == "AWS_REGION").then(|| value.to_owned()));
        Settings { aws_region: from.aws_region, ..nowhere() }
    };
    let found = ask(&settings("eu-central-1")).await;
    assert_eq!(found.claims, [claim(2, "AWS_REGION", "aws/eu-central-1", None)]);
    let text = found.explanation().unwrap();
    assert!(text.contains("AWS IMDSv2: nobody is there: connection refused"), "{text}");
    assert_eq!(ask(&settings("somewhere")).await.claims, []);
    let default =
        Settings::from_environment(|name| (name == "AWS_DEFAULT_REGION").then(|| "us-east-1".into()));
    assert_eq!(default.aws_region.as_deref(), Some("us-east-1"));
    assert_eq!(Settings::from_environment(|_| Some(String::new())), Settings::default());
}

#[tokio::test]
async fn all_are_asked_at_the_same_time() {
    // Nobody answers before all have been asked.
    let together = Arc::new(Barrier::new(3));
    let waiting = |first: &'static str, behave: Box<dyn Fn(&Request) -> Answer + Send + Sync>| {
        let together = Arc::clone(&together);
        MetadataServer::start(move |request| {
            if request.path.starts_with(first) {
                together.wait();
            }
            behave(request)
        })
    };
    let aws = waiting("/latest/api/token", Box::new(ec2("us-east-1", "us-east-1a")));
    let gcp = waiting(
        "/computeMetadata/v1/instance/zone",
        Box::new(compute_engine("projects/1/zones/us-east4-a", None)),
    );
    let azure = waiting("/metadata/instance", Box::new(azure("eastus", "1")));
    let settings = Settings { aws: vec![aws.address], gcp: gcp.address, azure: azure.address, ..nowhere() };
    let regions: Vec<_> = ask(&settings).await.claims.into_iter().map(|claim| claim.region.region).collect();
    assert_eq!(regions, ["us-east-1", "us-east4", "eastus"]);
}

#[tokio::test]
async fn whoever_does_not_answer_is_asked_once_and_not_waited_for() {
    let limit = Duration::from_millis(200);
    for (behave, expected) in [(Answer::Silence, Why::Silence(limit)), (Answer::Trickle, Why::Silence(limit))]
    {
        let servers = [(); 3].map(|()| {
            let behave = behave.clone();
            MetadataServer::start(move |_| behave.clone())
        });
        let [aws, gcp, azure] = servers.each_ref().map(|server| server.address);
        let found = ask(&Settings { timeout: limit, aws: vec![aws], gcp, azure, ..nowhere() }).await;
        assert_eq!(found.claims, []);
        assert!(found.not_found.iter().all(|missing| missing.why == expected), "{found:?}");
        for server in &servers {
            let mut paths: Vec<_> = server.requests().into_iter().map(|request| request.path).collect();
            let all = paths.len();
            paths.sort();
            paths.dedup();
            assert_eq!(paths.len(), all, "asked twice: {paths:?}");
        }
        let text = found.explanation().unwrap();
        assert!(text.contains("AWS IMDSv2: no answer within 200ms (a hop limit of 1"), "{text}");
    }
    assert_eq!(Settings::default().timeout, Duration::from_secs(1));
}

#[tokio::test]
async fn a_captive_proxy_is_no_metadata_service() {
    let found = asked_of_all(Duration::from_secs(10), captive_proxy).await;
    assert_eq!(found.claims, []);
    for service in ALL {
        assert!(matches!(why(&found, service), Why::Another(_)), "{found:?}");
    }
    assert!(!found.explanation().unwrap().contains("terms of use"), "what it sent is not repeated");
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let target = MetadataServer::start(ec2("us-east-1", "us-east-1a"));
    let location = format!("http://{}/latest/api/token", target.address);
    let server = MetadataServer::start(move |_| {
        Answer::Reply(307, vec![("Location", location.clone())], String::new())
    });
    let at = server.address;
    let found = ask(&Settings { aws: vec![at], gcp: at, azure: at, ..nowhere() }).await;
    assert!(found.not_found.iter().all(|missing| missing.why == Why::Redirect), "{found:?}");
    assert_eq!(found.not_found.len(), 3);
    assert!(target.requests().is_empty());
}

#[tokio::test]
async fn nonsense_of_every_kind_is_no_place_and_no_harm() {
    let limit = Duration::from_secs(10);
    let every = async |behave: fn(&Request) -> Answer, fits: fn(&Why) -> bool| {
        let found = asked_of_all(limit, behave).await;
        assert_eq!(found.claims, []);
        for service in ALL {
            assert!(fits(why(&found, service)), "{found:?}");
        }
    };
    every(|_| Answer::Garbage, |why| *why == Why::NotHttp).await;
    every(|_| Answer::HangUp, |why| *why == Why::NotHttp).await;
    every(|_| status(500), |why| *why == Why::Status(500)).await;
    every(|_| status(401), |why| *why == Why::Status(401)).await;
    every(|_| ok(""), |why| matches!(why, Why::Another(_))).await;
    every(|_| Answer::Endless, |why| *why == Why::TooLong).await;
    let head = |_: &Request| Answer::Reply(200, vec![("X", "x".repeat(1 << 20))], String::new());
    every(head, |why| *why == Why::NotHttp).await;
}

#[tokio::test]
async fn a_service_that_answers_with_what_cannot_be_is_not_believed() {
    for (region, zone) in
        [("nova", "nova"), ("us-east-1", "eu-west-1a"), ("us-east-1\nx", "us-east-1a"), ("", "")]
    {
        let server = MetadataServer::start(ec2(region, zone));
        let found = ask(&Settings { aws: vec![server.address], ..nowhere() }).await;
        assert!(matches!(why(&found, Service::Aws), Why::Nonsense(_)), "{region}: {found:?}");
    }
    for zone in ["projects/1/zones/", "us-east-1a", "<html>", "projects/1/zones/us-central1-<b>"] {
        let server = MetadataServer::start(compute_engine(zone, None));
        let found = ask(&Settings { gcp: server.address, ..nowhere() }).await;
        assert!(matches!(why(&found, Service::Gcp), Why::Nonsense(_)), "{zone}: {found:?}");
    }
    for location in ["", "East US", "<html>"] {
        let server = MetadataServer::start(azure(location, "1"));
        let found = ask(&Settings { azure: server.address, ..nowhere() }).await;
        assert!(matches!(why(&found, Service::Azure), Why::Nonsense(_)), "{location}: {found:?}");
    }
    // The right words without Google's mark.
    let server = MetadataServer::start(|_| ok("projects/1/zones/us-central1-a"));
    let found = ask(&Settings { gcp: server.address, ..nowhere() }).await;
    assert!(matches!(why(&found, Service::Gcp), Why::Another(_)), "{found:?}");
    // A machine that is none.
    let server = MetadataServer::start(|_| ok(r#"{"location":"eastus","vmId":"router"}"#));
    let found = ask(&Settings { azure: server.address, ..nowhere() }).await;
    assert!(matches!(why(&found, Service::Azure), Why::Another(_)), "{found:?}");
}

#[tokio::test]
async fn whoever_opts_out_sends_nothing() {
    let server = MetadataServer::start(ec2("us-east-1", "us-east-1a"));
    let at = server.address;
    let settings = Settings { enabled: false, aws: vec![at], gcp: at, azure: at, ..nowhere() };
    let found = ask(&settings).await;
    assert_eq!(found, Whereabouts::default());
    assert_eq!(found.explanation().as_deref(), Some("no cloud's metadata service was asked"));
    assert!(server.requests().is_empty());
}
