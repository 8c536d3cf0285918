-- The rules of the arena: numbers that rooms and agents share. The page gets those that
-- it needs when a player comes in.

local rules = {}

-- Rooms in the order in which they are offered.
rules.rooms = {
	{ name = "meadow", title = "Meadow", hue = 150 },
	{ name = "harbour", title = "Harbour", hue = 205 },
	{ name = "ember", title = "Ember", hue = 18 },
}

rules.width, rules.height = 1600, 1000
rules.ticks = 20 -- a second
rules.max_players = 40 -- of a room
rules.radius = 22 -- of a player
rules.speed = 280 -- units a second
rules.grip = 0.4 -- part of the wanted change of velocity that a tick brings
rules.dash_speed = 820
rules.dash_ticks = 4
rules.dash_cooldown = 28 -- ticks
rules.sparks = 26
rules.spark_radius = 9
rules.stolen = 3 -- sparks that a hit knocks out of a player
rules.safe_ticks = 20 -- after a hit
rules.knock = 560

rules.max_name = 16 -- characters
rules.max_chat = 160
rules.chat_history = 20

-- What the page has to know.
rules.page = {
	width = rules.width,
	height = rules.height,
	ticks = rules.ticks,
	radius = rules.radius,
	speed = rules.speed,
	grip = rules.grip,
	spark_radius = rules.spark_radius,
	dash_cooldown = rules.dash_cooldown,
	max_name = rules.max_name,
	max_chat = rules.max_chat,
}

-- Room of a name, or nil.
function rules.room(name)
	for _, room in ipairs(rules.rooms) do
		if room.name == name then
			return room
		end
	end
end

-- A text of a player as others may see it: no control characters, not longer than
-- `max` characters. "" if nothing is left.
function rules.clean(text, max)
	if type(text) ~= "string" or not utf8.len(text) then
		return ""
	end
	text = text:gsub("%c+", " "):match "^%s*(.-)%s*$"
	local stop = utf8.offset(text, max + 1)
	return stop and text:sub(1, stop - 1) or text
end

return rules
