//! What belongs to each code: its word, how bad it is unless somebody says otherwise, and what to do.

use super::Code;
use crate::mesh::place::policy::Severity;

impl Code {
    pub(super) fn entry(self) -> (&'static str, Severity, &'static str) {
        use Severity::{Fail, Info, Warning};
        match self {
            Self::Blind => {
                ("blind", Warning, "Name a source that sees coderd, or give it the rights that it lacks.")
            }
            Self::FewCoderd => ("few_coderd", Warning, "Run at least three replicas of coderd."),
            Self::ManyCoderd => (
                "many_coderd",
                Info,
                "Prefer fewer and larger replicas, unless Coder's reference for your size says so.",
            ),
            Self::SharedNode => (
                "shared_node",
                Warning,
                "Keep replicas of coderd apart with a required anti-affinity by host name.",
            ),
            Self::SingleZone => (
                "single_zone",
                Warning,
                "Spread coderd over the zones of its region with a topology spread constraint.",
            ),
            Self::CoderdCrossRegion => (
                "coderd_cross_region",
                Fail,
                "Run all of coderd in one region, and workspace proxies near distant users.",
            ),
            Self::DatabaseCrossRegion => (
                "database_cross_region",
                Fail,
                "Move the database into coderd's region, or coderd into the database's.",
            ),
            Self::DatabaseSameMetro => (
                "database_same_metro",
                Warning,
                "Move the database into coderd's region, or watch this link: it crosses between two networks.",
            ),
            Self::DatabaseNodesFar => {
                ("database_nodes_far", Warning, "Move the servers of the database near to each other.")
            }
            Self::StandbyLagging => {
                ("standby_lagging", Warning, "Find out what holds the standby up before it has to take over.")
            }
            Self::DatabaseIsStandby => (
                "database_is_standby",
                Fail,
                "Point the connection string at the primary, or at a name that follows it.",
            ),
            Self::DatabasePooled => (
                "database_pooled",
                Warning,
                "Connect coderd to PostgreSQL itself, or through a pooler that keeps sessions.",
            ),
            Self::NotificationQueueFilling => (
                "notification_queue_filling",
                Warning,
                "Find the session that listens and stays in a transaction (pg_stat_activity), and end it.",
            ),
            Self::ConnectionsLow => (
                "connections_low",
                Warning,
                "Raise max_connections, or lower what coderd and others may open (CODER_PG_CONN_MAX_OPEN).",
            ),
            Self::PubsubMixed => (
                "pubsub_mixed",
                Warning,
                "Finish the update, and give all replicas the same CODER_EXPERIMENTS and each its CODER_CLUSTER_HOST.",
            ),
            Self::PubsubBroken => (
                "pubsub_broken",
                Fail,
                "Look at the server's log and at pg_notification_queue_usage(), and for what stands between it and coderd.",
            ),
            Self::PubsubSlow => (
                "pubsub_slow",
                Warning,
                "Look at the server's load, its commits and long transactions of sessions that listen, and at the way to it.",
            ),
            Self::UnwatchedReplica => (
                "unwatched_replica",
                Warning,
                "Run an agent beside every replica of coderd, and let it join this mesh.",
            ),
            Self::OneWay => (
                "one_way",
                Fail,
                "Allow the missing direction in network policies, security groups and firewalls.",
            ),
            Self::CrossRegionSuspected => (
                "cross_region_suspected",
                Warning,
                "Say where it stands, or find out what makes the way that long.",
            ),
            Self::LabelContradictsMeasurement => (
                "label_contradicts_measurement",
                Warning,
                "Correct the label, or look for a detour on the way.",
            ),
            Self::LabelConflict => {
                ("label_conflict", Warning, "Correct the source that is wrong about the region.")
            }
            Self::LabelOverruled => (
                "label_overruled",
                Info,
                "Remove the setting, or correct it: a more trusted source knows better.",
            ),
            Self::LatencyDomains => (
                "latency_domains",
                Fail,
                "Move the named nodes near to the others, or shorten the way to them.",
            ),
            Self::Detour => ("detour", Info, "Ask for the routes between the two: a shorter way exists."),
            Self::Lopsided => {
                ("lopsided", Info, "Compare the routes of both directions, and the load of both machines.")
            }
            Self::MixedVersions => {
                ("mixed_versions", Warning, "Finish the update, so that all replicas run one version.")
            }
            Self::ClockSkew => {
                ("clock_skew", Warning, "Set the clock by NTP: Coder tells live replicas by its clock.")
            }
            Self::SharedRelay => (
                "shared_relay",
                Warning,
                "Give every replica its own CODER_DERP_SERVER_RELAY_URL, such as its pod's address.",
            ),
            Self::ProxyOtherRegion => {
                ("proxy_other_region", Info, "Run the proxy in the region of the workspaces that it serves.")
            }
            Self::ProvisionerUnreachable => (
                "provisioner_unreachable",
                Warning,
                "See whether the provisioner runs and may be reached from here.",
            ),
            Self::NoDisruptionBudget => {
                ("no_disruption_budget", Info, "Add a PodDisruptionBudget that keeps most of coderd running.")
            }
            Self::HealthThreshold => {
                ("health_threshold", Info, "Set CODER_HEALTH_CHECK_THRESHOLD_DATABASE to the budget.")
            }
            Self::RelayUnreachable => (
                "relay_unreachable",
                Fail,
                "Let coderd's pods reach each other at the port of CODER_DERP_SERVER_RELAY_URL (NetworkPolicy, firewall).",
            ),
            Self::RelayUnconfirmed => (
                "relay_unconfirmed",
                Warning,
                "See whether coderd's own pods reach the relay: run an agent in them, or look for the network rule.",
            ),
            Self::NatsUnreachable => (
                "nats_unreachable",
                Fail,
                "Let coderd's pods reach each other at the port of NATS, 6222 by default (NetworkPolicy, firewall).",
            ),
            Self::NatsUnconfirmed => (
                "nats_unconfirmed",
                Warning,
                "See whether coderd's own pods reach the port: run an agent in them, or look for the network rule.",
            ),
            Self::ReplicaUnhealthy => (
                "replica_unhealthy",
                Warning,
                "See the replica's log: it runs and does not call itself well.",
            ),
            Self::RelayOff => (
                "relay_off",
                Info,
                "Nothing, where CODER_DERP_SERVER_ENABLE is false on purpose; else set it to true.",
            ),
            Self::TcpRedirected => (
                "tcp_redirected",
                Warning,
                "Exempt the ports of coderd's relay and NATS from the service mesh or proxy that takes them over.",
            ),
            Self::PathsDiffer => (
                "paths_differ",
                Warning,
                "Look for a proxy or another route on the way of TCP, and for a replica that is busy.",
            ),
            Self::AutoscaledCoderd => (
                "autoscaled_coderd",
                Fail,
                "Remove the autoscaler, and choose a number of replicas for the highest load.",
            ),
            Self::AutoscaledProxy => (
                "autoscaled_proxy",
                Warning,
                "Run a fixed number of proxies: whoever is connected through one that stops has to connect anew.",
            ),
            Self::NoAntiAffinity => (
                "no_anti_affinity",
                Warning,
                "Keep replicas of coderd apart with a required anti-affinity by kubernetes.io/hostname.",
            ),
            Self::SoftAntiAffinity => (
                "soft_anti_affinity",
                Info,
                "Make the anti-affinity a required one where there are nodes enough.",
            ),
            Self::SelectorMismatch => {
                ("selector_mismatch", Warning, "Select labels that the pods of coderd carry.")
            }
            Self::NoZoneSpread => (
                "no_zone_spread",
                Info,
                "Spread coderd over the zones of its region with a topology spread constraint.",
            ),
            Self::SeveralRegions => (
                "several_regions",
                Warning,
                "Bind coderd to one region, as with nodeSelector topology.kubernetes.io/region.",
            ),
            Self::RelayUnset => (
                "relay_unset",
                Fail,
                "Set CODER_DERP_SERVER_RELAY_URL to each pod's own address, like http://$(KUBE_POD_IP):8080.",
            ),
            Self::RelayIsAccessUrl => (
                "relay_is_access_url",
                Fail,
                "Set CODER_DERP_SERVER_RELAY_URL to each pod's own address, like http://$(KUBE_POD_IP):8080.",
            ),
            Self::RelayBlocked => (
                "relay_blocked",
                Fail,
                "Allow TCP from coderd's pods to coderd's pods on the port of the relay, for ingress and for egress.",
            ),
            Self::NatsBlocked => (
                "nats_blocked",
                Fail,
                "Allow TCP 6222 from coderd's pods to coderd's pods, for ingress and for egress.",
            ),
            Self::ClusterHostNotPodIp => {
                ("cluster_host_not_pod_ip", Warning, "Set CODER_CLUSTER_HOST from the field status.podIP.")
            }
            Self::BuiltInProvisioners => (
                "built_in_provisioners",
                Info,
                "Set CODER_PROVISIONER_DAEMONS to 0, and run provisioners of their own.",
            ),
            Self::ProvisionersSharePod => {
                ("provisioners_share_pod", Info, "Run one provisioner a pod, and more pods.")
            }
            Self::ProvisionersBesideCoderd => {
                ("provisioners_beside_coderd", Info, "Run provisioners and workspaces on nodes of their own.")
            }
            Self::PrometheusOff => ("prometheus_off", Info, "Set CODER_PROMETHEUS_ENABLE to true."),
            Self::DatabaseMetricsOff => {
                ("database_metrics_off", Info, "Set CODER_PROMETHEUS_COLLECT_DB_METRICS to true.")
            }
        }
    }
}
