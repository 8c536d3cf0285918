-- How fast is this machine now? Runs a fixed mix of plain Lua (calls, string
-- keys, small tables) with the built interpreter and prints rounds per CPU
-- second. Figures from different days or machines compare after division by it.

local ROUNDS = 40

local function round()
	local words, sum = {}, 0
	for i = 1, 20000 do
		local key = "key" .. (i % 500)
		local box = { i, key }
		words[key] = box
		sum = sum + #box[2]
	end
	local function depth(n)
		return n == 0 and 0 or 1 + depth(n - 1)
	end
	for _ = 1, 200 do sum = sum + depth(150) end
	return sum
end

local best = math.huge
for _ = 1, 5 do
	local start = os.clock()
	for _ = 1, ROUNDS do round() end
	best = math.min(best, os.clock() - start)
end
print(string.format("unit rounds_per_s=%.1f", ROUNDS / best))
