//! What each cloud's metadata service is asked, how its answer is known to be its own, and what is read from it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hyper::Method;
use probes::http::HttpUrl;
use serde::Deserialize;

use super::get::{Question, Reply, Why, get};
use super::is_near;
use super::region::{is_aws, is_azure, is_gcp, is_label, of_aws_zone, of_gcp_zone};

/// Where a machine stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) region: String,
    pub(super) zone: Option<String>,
    pub(super) zone_name: Option<String>,
    pub(super) instance: Option<String>,
}

/// EC2: a token first, which only a PUT gets and so no careless proxy.
pub(super) async fn aws(at: SocketAddr, limit: Duration) -> Result<Place, Why> {
    let host = at.ip().to_string();
    let ask = async |method, path: &str, header| {
        let host = if at.is_ipv6() { format!("[{host}]") } else { host.clone() };
        get(Question { at, method, host: &host, path, header }, limit).await
    };
    let ttl = Some(("x-aws-ec2-metadata-token-ttl-seconds", "60"));
    let token = ask(Method::PUT, "/latest/api/token", ttl).await?.body;
    let token_like = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=' | b'-' | b'_');
    if !(1..=1024).contains(&token.len()) || !token.bytes().all(token_like) {
        return Err(Why::Another("its token is none"));
    }
    let read = async |what: &str| {
        let path = format!("/latest/meta-data/{what}");
        ask(Method::GET, &path, Some(("x-aws-ec2-metadata-token", &token))).await
    };
    let (region, zone, zone_name, instance) = tokio::join!(
        read("placement/region"),
        read("placement/availability-zone-id"),
        read("placement/availability-zone"),
        read("instance-id"),
    );
    let region = region?.body;
    if !is_aws(&region) {
        return Err(Why::Nonsense("it is no region of AWS"));
    }
    let zone_name = label(zone_name);
    if zone_name.as_ref().is_some_and(|name| !name.starts_with(&region)) {
        return Err(Why::Nonsense("its zone is in another region"));
    }
    Ok(Place { region, zone: label(zone), zone_name, instance: label(instance) })
}

/// Google's server marks every answer. GKE's own stands in for it in pods.
pub(super) async fn gcp(at: SocketAddr, limit: Duration) -> Result<Place, Why> {
    const FLAVOR: &str = "Metadata-Flavor";
    let read = async |what: &str| {
        let path = format!("/computeMetadata/v1/instance/{what}");
        let host = "metadata.google.internal";
        let header = Some((FLAVOR, "Google"));
        let reply = get(Question { at, method: Method::GET, host, path: &path, header }, limit).await?;
        if reply.headers.get(FLAVOR).is_none_or(|flavor| flavor != "Google") {
            return Err(Why::Another("the answer does not carry Metadata-Flavor: Google"));
        }
        Ok(reply)
    };
    let (zone, instance, cluster) =
        tokio::join!(read("zone"), read("id"), read("attributes/cluster-location"));
    let instance = label(instance);
    let why = match zone {
        Ok(zone) => {
            // `projects/123/zones/us-central1-a`
            let zone = zone.body.rsplit('/').next().unwrap_or_default();
            if let Some(region) = of_gcp_zone(zone) {
                let (region, zone) = (region.to_owned(), Some(zone.to_owned()));
                return Ok(Place { region, zone: zone.clone(), zone_name: zone, instance });
            }
            Why::Nonsense("it is no zone of Google Cloud")
        }
        Err(why) => why,
    };
    // The cluster's place is a region, or its only zone.
    let Ok(Reply { body, .. }) = cluster else { return Err(why) };
    if is_gcp(&body) {
        return Ok(Place { region: body, zone: None, zone_name: None, instance });
    }
    let region = of_gcp_zone(&body).ok_or(why)?.to_owned();
    Ok(Place { region, zone: Some(body.clone()), zone_name: Some(body), instance })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AzureCompute {
    location: String,
    #[serde(default)]
    zone: String,
    vm_id: String,
}

/// Azure's answers carry no mark; what a machine of Azure is, is known by its fields.
pub(super) async fn azure(at: SocketAddr, limit: Duration) -> Result<Place, Why> {
    let host = at.ip().to_string();
    let path = "/metadata/instance/compute?api-version=2021-02-01";
    let header = Some(("Metadata", "true"));
    let reply = get(Question { at, method: Method::GET, host: &host, path, header }, limit).await?;
    let compute: AzureCompute = serde_json::from_str(&reply.body)
        .map_err(|_| Why::Another("the answer does not describe a machine of Azure"))?;
    let instance = compute.vm_id.to_ascii_lowercase();
    if !is_uuid(&instance) {
        return Err(Why::Another("the machine's id is none of Azure"));
    }
    if !is_azure(&compute.location) {
        return Err(Why::Nonsense("it is no region of Azure"));
    }
    let region = compute.location;
    // As in the label of AKS's nodes. The numbers are those of the subscription.
    let is_number = !compute.zone.is_empty() && compute.zone.bytes().all(|b| b.is_ascii_digit());
    let zone = (is_number && compute.zone.len() <= 2).then(|| format!("{region}-{}", compute.zone));
    Ok(Place { region, zone_name: zone.clone(), zone, instance: Some(instance) })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct EcsTask {
    availability_zone: Option<String>,
    #[serde(rename = "TaskARN")]
    task: String,
}

/// ECS and Fargate: the environment says where to ask. They know the zone by name only.
pub(super) async fn ecs(url: &str, limit: Duration) -> Result<Place, Why> {
    let parsed: HttpUrl = url.parse().map_err(|_| Why::NoAddress)?;
    let ip: IpAddr = parsed.address().host.parse().map_err(|_| Why::Far)?;
    if parsed.is_tls() || !is_near(ip) {
        return Err(Why::Far);
    }
    let uri: hyper::Uri = url.parse().map_err(|_| Why::NoAddress)?;
    let at = SocketAddr::from((ip, parsed.address().port));
    let path = format!("{}/task", uri.path().trim_end_matches('/'));
    let host = uri.authority().map_or("", |authority| authority.as_str());
    let reply = get(Question { at, method: Method::GET, host, path: &path, header: None }, limit).await?;
    let task: EcsTask = serde_json::from_str(&reply.body)
        .map_err(|_| Why::Another("the answer does not describe a task of ECS"))?;
    // `arn:aws:ecs:us-east-1:123456789012:task/…`
    let region = match task.task.split(':').collect::<Vec<_>>()[..] {
        ["arn", _, "ecs", region, _, ..] if is_aws(region) => region.to_owned(),
        _ => return Err(Why::Nonsense("the task's name has no region of AWS")),
    };
    let zone_name = task.availability_zone.filter(|zone| is_label(zone));
    if zone_name.as_deref().and_then(of_aws_zone).is_some_and(|other| other != region) {
        return Err(Why::Nonsense("its zone is in another region"));
    }
    Ok(Place { region, zone: None, zone_name, instance: None })
}

/// What is nice to have: an answer that is none is as good as no answer.
fn label(reply: Result<Reply, Why>) -> Option<String> {
    reply.ok().map(|reply| reply.body).filter(|text| is_label(text))
}

fn is_uuid(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12]) && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
}
