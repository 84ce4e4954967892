//! What the names of regions look like. By pattern and not by table: clouds open regions faster than tables grow. Pure.

const DIRECTIONS: [&str; 9] =
    ["north", "south", "east", "west", "central", "northeast", "northwest", "southeast", "southwest"];

/// `us-east-1`, `us-gov-west-1`, `ap-southeast-5`, `cn-north-1`, `us-isob-east-1`, `eusc-de-east-1`.
pub(super) fn is_aws(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let [areas @ .., direction, number] = &parts[..] else { return false };
    (1..=2).contains(&areas.len())
        && areas.iter().all(|area| is_word(area, 2..=4))
        && DIRECTIONS.contains(direction)
        && is_number(number)
}

/// `us-central1`, `europe-west12`, `northamerica-northeast1`.
pub(super) fn is_gcp(text: &str) -> bool {
    let Some((area, rest)) = text.split_once('-') else { return false };
    let direction = rest.trim_end_matches(|c: char| c.is_ascii_digit());
    is_word(area, 2..=14) && DIRECTIONS.contains(&direction) && is_number(&rest[direction.len()..])
}

/// `eastus`, `westus3`, `germanywestcentral`. Azure's names have no form of their own: this only refuses what is none.
pub(super) fn is_azure(text: &str) -> bool {
    let word = text.trim_end_matches(|c: char| c.is_ascii_digit());
    is_word(word, 4..=40) && text.len() - word.len() <= 2
}

/// The region of a GCP zone, `us-central1-a`.
pub(super) fn of_gcp_zone(zone: &str) -> Option<&str> {
    let (region, letter) = zone.rsplit_once('-')?;
    (is_gcp(region) && is_label(letter)).then_some(region)
}

/// The region of an AWS zone by name, `us-east-1a`.
pub(super) fn of_aws_zone(zone: &str) -> Option<&str> {
    let region = zone.strip_suffix(|c: char| c.is_ascii_lowercase())?;
    is_aws(region).then_some(region)
}

/// A zone's or machine's id: short, and nothing in it that would look like more than a word.
pub(super) fn is_label(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn is_word(text: &str, length: std::ops::RangeInclusive<usize>) -> bool {
    length.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase())
}

fn is_number(text: &str) -> bool {
    (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const AWS: &str = "us-east-1 us-east-2 us-west-1 us-west-2 ca-central-1 ca-west-1 mx-central-1 sa-east-1 eu-west-1 \
        eu-central-2 eu-north-1 eu-south-2 il-central-1 me-south-1 af-south-1 ap-south-1 ap-southeast-7 ap-northeast-3 \
        ap-east-2 us-gov-west-1 us-gov-east-1 cn-north-1 cn-northwest-1 us-iso-east-1 us-isob-east-1 eusc-de-east-1";
    const GCP: &str = "us-central1 us-east4 us-south1 us-west4 northamerica-northeast2 northamerica-south1 \
        southamerica-west1 europe-west12 europe-southwest1 europe-central2 europe-north2 me-west1 africa-south1 \
        asia-southeast2 asia-northeast3 australia-southeast2";
    const AZURE: &str = "eastus eastus2 westus3 northcentralus mexicocentral northeurope uksouth francecentral \
        germanywestcentral switzerlandnorth uaenorth southafricanorth centralindia jioindiawest chinanorth3 usgovvirginia \
        newzealandnorth";
    const NONE: &str = "global us us- -1 east-1 us-east us-east- us-east-1-1-1 us-east-100 lax us-up-1 US-EAST-1 \
        us--east-1 <html> us-east1a 1 nova";

    #[test]
    fn the_regions_of_each_cloud_are_known_by_their_form() {
        assert!(AWS.split_whitespace().all(is_aws));
        assert!(GCP.split_whitespace().all(is_gcp));
        assert!(AZURE.split_whitespace().all(is_azure));
        for text in NONE.split_whitespace() {
            assert!(!is_aws(text) && !is_gcp(text), "{text}");
        }
        assert!(!GCP.split_whitespace().any(is_aws) && !AWS.split_whitespace().any(is_gcp));
        for text in ["", "us", "<html>", "East US", "eastus123", "east-us"] {
            assert!(!is_azure(text), "{text}");
        }
    }

    #[test]
    fn a_zone_tells_its_region() {
        assert_eq!(of_gcp_zone("us-central1-a"), Some("us-central1"));
        assert_eq!(of_gcp_zone("us-south1-ai1b"), Some("us-south1"));
        assert_eq!(of_gcp_zone("us-central1"), None);
        assert_eq!(of_aws_zone("us-east-1a"), Some("us-east-1"));
        assert_eq!(of_aws_zone("us-east-1"), None);
        assert_eq!(
            of_aws_zone("us-west-2-lax-1a"),
            None,
            "a local zone is not its region's neighbour by name"
        );
    }
}
