//! What was found, for people.

use std::fmt::{self, Write};

use super::Judged;
use crate::export::text::Colour;
use crate::mesh::place::policy::Severity;
use crate::mesh::verdict::Verdict;

/// All of it as text with a newline at its end.
pub fn render(judged: &Judged, colour: Colour) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_judged(&mut text, judged, colour);
    text
}

fn write_judged(out: &mut String, judged: &Judged, colour: Colour) -> fmt::Result {
    let title = "manifests (as written; nothing is measured)";
    writeln!(out, "{}\n{}", colour.paint("1", title), "-".repeat(title.len()))?;
    for part in &judged.parts {
        let replicas = match part.replicas {
            Some(1) => "one replica".to_owned(),
            Some(count) => format!("{count} replicas"),
            None => "on each node".to_owned(),
        };
        let by = if part.recognised_by == "command" {
            String::new()
        } else {
            format!("; taken for one by its {}", part.recognised_by)
        };
        writeln!(out, "· {} [{}] {replicas} ({}{by})", part.resource, part.role, part.file)?;
    }
    if !judged.parts.is_empty() {
        writeln!(out)?;
    }
    for finding in &judged.findings {
        writeln!(out, "{} {}: {}", colour.severity(finding.severity), finding.code, finding.evidence)?;
        writeln!(out, "    hint: {} ({})", finding.remedy, finding.anchor)?;
    }
    for fault in &judged.faults {
        let mark = colour.severity(Severity::Fail);
        writeln!(out, "{mark} {}: {}: {} {}", fault.file, fault.resource, fault.field, fault.text)?;
    }
    for unjudged in &judged.unjudged {
        let mark = match unjudged.severity {
            Severity::Info => colour.severity(Severity::Info),
            Severity::Warning | Severity::Fail => colour.severity(Severity::Warning),
        };
        writeln!(out, "{mark} cannot tell {}: {}", unjudged.code, unjudged.text)?;
    }
    if !(judged.findings.is_empty() && judged.faults.is_empty() && judged.unjudged.is_empty()) {
        writeln!(out)?;
    }
    let word = colour.paint("1", &judged.verdict.as_str().to_uppercase());
    writeln!(out, "{} {word} – {}", colour.symbol(judged.verdict), sentence(judged))?;
    let ignored: usize = judged.ignored.iter().map(|(_, count)| count).sum();
    if ignored > 0 {
        let kinds: Vec<_> = judged.ignored.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        writeln!(out, "  {} read, {ignored} of no interest: {}", judged.read, kinds.join(", "))?;
    }
    if !judged.replaced.is_empty() {
        writeln!(out, "  given again later, so the last counts: {}", judged.replaced.join(", "))?;
    }
    Ok(())
}

fn sentence(judged: &Judged) -> String {
    let count = |severity| judged.findings.iter().filter(|finding| finding.severity == severity).count();
    let (fails, warnings) = (count(Severity::Fail), count(Severity::Warning));
    let has_coderd = judged.parts.iter().any(|part| part.role == "coderd");
    let unreadable = counted(judged.faults.len(), "field");
    match judged.verdict {
        Verdict::Fail => {
            format!("{} against what Coder demands", counted(fails, "finding"))
        }
        _ if !judged.faults.is_empty() => format!("{unreadable} cannot be read as Kubernetes would"),
        Verdict::Inconclusive if judged.read == 0 && judged.ignored.is_empty() => {
            "there is nothing in what was given".to_owned()
        }
        Verdict::Inconclusive if !has_coderd => {
            format!("no coderd among {}", counted(judged.read, "resource"))
        }
        Verdict::Inconclusive => "what decides is written elsewhere".to_owned(),
        _ if warnings > 0 => format!("nothing that Coder forbids, {}", counted(warnings, "warning")),
        _ => "nothing speaks against it; measure when it runs".to_owned(),
    }
}

fn counted(count: usize, thing: &str) -> String {
    if count == 1 { format!("one {thing}") } else { format!("{count} {thing}s") }
}
