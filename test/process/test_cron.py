"""skynet.cron in the time zone of the process."""

from harness import Node

# Central Europe, as a rule, so that no time zone files are needed.
TZ = "CET-1CEST,M3.5.0,M10.5.0/3"
SPRING = 1774746000  # 2026-03-29 01:00 UTC: 02:00 becomes 03:00
AUTUMN = 1792890000  # 2026-10-25 01:00 UTC: 03:00 becomes 02:00

PROBE = """
local skynet = require "skynet"
local cron = require "skynet.cron"
local wallclock = require "skynet.wallclock"
skynet.start(function()
	local spring, autumn = %d, %d
	local function show(name, t) skynet.error("probe", name, t) end
	show("winter", wallclock.utc_offset(spring - 1))
	show("summer", wallclock.utc_offset(spring))
	show("gap", cron.next("30 2 * * *", spring - 3600) - spring)
	show("after_gap", cron.next("30 2 * * *", spring) - spring)
	show("back", cron.next("30 2 * * *", autumn - 7200) - autumn)
	show("after_back", cron.next("30 2 * * *", autumn - 1800) - autumn)
	show("interval", cron.next("30 * * * *", autumn - 1800) - autumn)
	show("previous", cron.previous("30 2 * * *", autumn + 3600) - autumn)
	show("at", cron.at("2030-07-01 12:00", print):next())
	show("utc", cron.next("0 12 * * *", spring, "utc") - spring)
	show("now", math.abs(wallclock.now() - os.time()) < 600 and 1 or 0)
	skynet.error "probe done"
end)
""" % (SPRING, AUTUMN)

WANT = {
    "winter": 3600,
    "summer": 7200,
    "gap": 0,
    "after_gap": 86400 - 1800,
    "back": -1800,
    "after_back": 86400 + 1800,
    "interval": 1800,
    "previous": -1800,
    "at": 1909130400,
    "utc": 11 * 3600,
    "now": 1,
}


def test_local_time_follows_the_changes_of_the_zone():
    config = 'luaservice = luaservice .. ";./?.lua"\nstart = "probe"\n'
    with Node(config, files={"probe.lua": PROBE}, env={"TZ": TZ}) as node:
        node.wait_for("probe done")
        for name, value in WANT.items():
            assert f"probe {name} {value}\n" in node.text, (name, node.text)
        assert node.stop() == 0
