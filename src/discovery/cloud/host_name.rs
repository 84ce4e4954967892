//! The region in a database's host name, where its provider writes it there. Pure.
//!
//! A name says where the *endpoint* stands; a proxy in the middle may stand elsewhere. Azure's
//! `….postgres.database.azure.com`, and names that follow the primary from region to region (`….global.…`), say nothing.

use super::region::{is_aws, is_azure, is_gcp};
use crate::mesh::roster::{Claim, RegionName};

/// Where the endpoint of this name stands; `None` where the name does not say.
pub fn claim_of_host_name(host: &str) -> Option<Claim> {
    let (provider, region) = region(host)?;
    Some(Claim {
        trust: 3,
        by: "host name".to_owned(),
        region: RegionName { provider: Some(provider.to_owned()), region },
        zone: None,
    })
}

/// The same for a name and what it is an alias of, nearest first: the last that says anything is where it ends.
pub fn claim_of_host_names(host: &str, aliases: &[String]) -> Option<Claim> {
    let names = std::iter::once(host).chain(aliases.iter().map(String::as_str));
    names.filter_map(claim_of_host_name).next_back()
}

fn region(host: &str) -> Option<(&'static str, String)> {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    if host.contains(':') {
        return cloud_sql_instance(&host);
    }
    let labels: Vec<&str> = host.split('.').collect();
    aws(&labels).or_else(|| cloud_sql(&labels)).or_else(|| neon(&labels)).or_else(|| supabase(&labels))
}

/// RDS and Aurora with their proxies, clusters and shard groups, and what stands behind a load balancer.
fn aws(labels: &[&str]) -> Option<(&'static str, String)> {
    let rest = [
        &["amazonaws", "com"][..],
        &["amazonaws", "com", "cn"],
        &["amazonaws", "eu"],
        &["c2s", "ic", "gov"],
        &["sc2s", "sgov", "gov"],
    ]
    .into_iter()
    .find_map(|suffix| labels.strip_suffix(suffix))?;
    let region = match rest {
        [_, .., region, "rds" | "elb"] | [_, .., "rds" | "elb", region] => region,
        _ => return None,
    };
    is_aws(region).then(|| ("aws", (*region).to_owned()))
}

/// `PROJECT:REGION:INSTANCE`, also as the directory of a socket; projects of a domain have a colon more.
fn cloud_sql_instance(host: &str) -> Option<(&'static str, String)> {
    let name = host.trim_end_matches("/.s.pgsql.5432").trim_end_matches('/').rsplit('/').next()?;
    let parts: Vec<&str> = name.split(':').collect();
    let region = match parts[..] {
        [_, region, _] | [_, _, region, _] => region,
        _ => return None,
    };
    // Projects and instances start with a letter, which most parts of an IPv6 address do not.
    let names = parts.iter().all(|part| part.starts_with(|c: char| c.is_ascii_lowercase()));
    (names && is_gcp(region)).then(|| ("gcp", region.to_owned()))
}

/// Private Service Connect and private services access.
fn cloud_sql(labels: &[&str]) -> Option<(&'static str, String)> {
    match labels {
        [_, .., region, "sql" | "sql-psc" | "sql-psa", "goog"] if is_gcp(region) => {
            Some(("gcp", (*region).to_owned()))
        }
        _ => None,
    }
}

/// `ep-….us-east-2.aws.neon.tech`, with a cell (`c-5`) before the region since 2025.
fn neon(labels: &[&str]) -> Option<(&'static str, String)> {
    match labels {
        [_, .., region, "aws", "neon", "tech"] if is_aws(region) => Some(("aws", (*region).to_owned())),
        [_, .., region, "azure", "neon", "tech"] if is_azure(region) => Some(("azure", (*region).to_owned())),
        _ => None,
    }
}

/// `aws-0-eu-central-1.pooler.supabase.com`.
fn supabase(labels: &[&str]) -> Option<(&'static str, String)> {
    let [pool, "pooler", "supabase", "com"] = labels else { return None };
    let (number, region) = pool.strip_prefix("aws-")?.split_once('-')?;
    (number.parse::<u8>().is_ok() && is_aws(region)).then(|| ("aws", region.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_provider_that_writes_the_region_into_the_name_is_read() {
        for (host, expected) in [
            ("db1.abc123def456.us-east-1.rds.amazonaws.com", "aws/us-east-1"),
            ("DB1.ABC123DEF456.US-EAST-1.RDS.AMAZONAWS.COM.", "aws/us-east-1"),
            ("db1.cluster-abc123.eu-central-1.rds.amazonaws.com", "aws/eu-central-1"),
            ("db1.cluster-ro-abc123.eu-west-2.rds.amazonaws.com", "aws/eu-west-2"),
            ("db1.cluster-custom-abc123.ap-southeast-5.rds.amazonaws.com", "aws/ap-southeast-5"),
            ("db1.proxy-abc123.sa-east-1.rds.amazonaws.com", "aws/sa-east-1"),
            ("ro.endpoint.proxy-abc123.sa-east-1.rds.amazonaws.com", "aws/sa-east-1"),
            ("db1.shardgrp-abc123.us-west-2.rds.amazonaws.com", "aws/us-west-2"),
            ("db1.abc123.rds.cn-north-1.amazonaws.com.cn", "aws/cn-north-1"),
            ("db1.abc123.cn-northwest-1.rds.amazonaws.com.cn", "aws/cn-northwest-1"),
            ("db1.abc123.rds.us-gov-west-1.amazonaws.com", "aws/us-gov-west-1"),
            ("db1.abc123.us-gov-east-1.rds.amazonaws.com", "aws/us-gov-east-1"),
            ("db1.abc123.rds.us-iso-east-1.c2s.ic.gov", "aws/us-iso-east-1"),
            ("db1.abc123.rds.us-isob-east-1.sc2s.sgov.gov", "aws/us-isob-east-1"),
            ("db1.abc123.rds.eusc-de-east-1.amazonaws.eu", "aws/eusc-de-east-1"),
            ("pg-0123456789abcdef.elb.us-east-2.amazonaws.com", "aws/us-east-2"),
            ("internal-pg-123.us-east-2.elb.amazonaws.com", "aws/us-east-2"),
            ("my-project:us-central1:pg", "gcp/us-central1"),
            ("example.com:my-project:europe-west12:pg", "gcp/europe-west12"),
            ("/cloudsql/my-project:us-east4:pg", "gcp/us-east4"),
            ("/cloudsql/my-project:us-east4:pg/.s.PGSQL.5432", "gcp/us-east4"),
            ("1a23b4cd5e67.1a2b345c6d27.asia-northeast2.sql.goog.", "gcp/asia-northeast2"),
            ("1a23b4cd5e67.1a2b345c6d27.us-east4.sql-psa.goog", "gcp/us-east4"),
            ("ep-cool-rain-123456.us-east-2.aws.neon.tech", "aws/us-east-2"),
            ("ep-cool-rain-123456-pooler.c-5.eu-central-1.aws.neon.tech", "aws/eu-central-1"),
            ("ep-cool-rain-123456.eastus2.azure.neon.tech", "azure/eastus2"),
            ("aws-0-eu-central-1.pooler.supabase.com", "aws/eu-central-1"),
            ("aws-1-ap-southeast-1.pooler.supabase.com", "aws/ap-southeast-1"),
        ] {
            let claim = claim_of_host_name(host).unwrap_or_else(|| panic!("{host} says nothing"));
            let RegionName { provider, region } = claim.region;
            assert_eq!(format!("{}/{region}", provider.unwrap()), expected, "{host}");
            assert_eq!((claim.trust, claim.by.as_str(), claim.zone), (3, "host name", None));
        }
    }

    #[test]
    fn a_name_that_does_not_say_is_not_made_to() {
        for host in [
            "",
            ".",
            "localhost",
            "10.0.0.1",
            "fd00::1",
            "fd00:us-central1:1",
            "::us-central1:",
            "pg.postgres.database.azure.com",
            "pg.privatelink.postgres.database.azure.com",
            "c.pg.postgres.cosmos.azure.com",
            "db1.global-abc123.global.rds.amazonaws.com",
            "103uufa2svq8u.2rb3qdj9tkf4d.global.sql-psa.goog",
            "us-east-1.rds.amazonaws.com",
            "rds.us-east-1.amazonaws.com",
            "db1.abc123.us-east-1.rds.amazonaws.com.example.com",
            "db1.abc123.us-east-1.rds.example.com",
            "us-east-1.example.com",
            "db.abcdefgh.supabase.co",
            "aws-x-eu-central-1.pooler.supabase.com",
            "us-east-2.aws.neon.tech",
            "/var/run/postgresql",
            "s3.us-east-1.amazonaws.com",
        ] {
            assert_eq!(claim_of_host_name(host), None, "{host}");
        }
    }

    #[test]
    fn of_a_chain_of_aliases_the_last_that_says_anything_counts() {
        let aliases =
            ["db1.cluster-abc.eu-west-1.rds.amazonaws.com", "db1.abc.eu-west-2.rds.amazonaws.com", "x"]
                .map(str::to_owned);
        assert_eq!(claim_of_host_names("db.example.com", &aliases).unwrap().region.region, "eu-west-2");
        assert_eq!(claim_of_host_names("db.example.com", &[]), None);
        let alone = claim_of_host_names("db1.abc.eu-west-2.rds.amazonaws.com", &[]);
        assert_eq!(alone.unwrap().region.region, "eu-west-2");
    }
}
