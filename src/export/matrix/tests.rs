//! What the tables look like.

use super::samples::document;
use super::*;

const VIEW: View = View { figure: Figure::P95, zones: false, width: 80, colour: Colour::Never };

#[test]
fn a_table_has_a_sign_and_a_number_in_each_cell_and_names_who_is_silent() {
    let lines = "\
× 1 of 4 judged paths is over
breach seen by coderd-a (a, r1) at 2026-01-01T00:00:00.000Z

peer                  1       3
r1 a
   1 coderd-a         –   ▲91.2
r1 b
   2 coderd-c    ~0.400
r2 a
   3 coderd-b    ◆9.50!       –

postgres              A
r1 a
   1 coderd-a     0.412
r1 b
   2 coderd-c
r2 a
   3 coderd-b         ×
  A = db:5432/coder

relay: 1 ok
‼ coderd-c has not been heard of for 34 s: what it told is history

p95 in ms; ▲ over the budget  ◆ at risk  × unreachable  ~ stale  ? unknown  » left  – itself
";
    let seen = render(&document(), VIEW);
    assert_eq!(seen, lines, "{seen}");
}

#[test]
fn where_the_terminal_is_too_narrow_it_goes_zone_by_zone() {
    let narrow = render(&document(), View { width: 20, ..VIEW });
    assert!(narrow.contains("  r1 a → r2     ▲91.2  1 path\n"), "{narrow}");
    assert!(narrow.contains("peer, zone by zone"), "{narrow}");
    assert_eq!(render(&document(), View { zones: true, ..VIEW }), narrow);
}

#[test]
fn colour_changes_nothing_but_colour() {
    let plain = render(&document(), VIEW);
    let mut coloured = render(&document(), View { colour: Colour::Always, ..VIEW });
    for code in ["\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[33m", "\x1b[32m"] {
        coloured = coloured.replace(code, "");
    }
    assert_eq!(coloured, plain);
}

#[test]
fn loss_is_a_share_in_percent_and_nothing_is_a_bare_zero() {
    let loss = render(&document(), View { figure: Figure::Loss, ..VIEW });
    assert!(loss.contains("▲1.00") && loss.contains("loss in %"), "{loss}");
    assert_eq!(Figure::Loss.write(0.0), "0");
    for (us, text) in
        [(45.0, "0.045"), (412.0, "0.412"), (9_999.0, "10.00"), (12_340.0, "12.3"), (123_400.0, "123")]
    {
        assert_eq!(Figure::P95.write(us), text);
    }
}

#[test]
fn no_name_can_break_out_of_markdown() {
    let mut hostile = document();
    hostile.agents[2].name = "a|b](http://x)<img>".into();
    hostile.cells[0].source = hostile.agents[2].name.clone();
    let text = markdown(&hostile, Figure::P95);
    assert!(text.contains("| a\\|b\\](http://x)\\<img\\> |"), "{text}");
    assert!(text.contains("| peer | coderd-b | coderd-a |\n|---|---:|---:|\n"), "{text}");
}
