-- Slurm 22.05's side of job_submit.lua, as recorded on Debian 12's slurmctld: the `slurm` table, a
-- job description that keeps to its rules, and the order of things at load and submission.
--
--     lua5.1 slurm_22_05.lua LOADER SCENARIO
--
-- SCENARIO returns { job = {}, env = {}, record = {} or nil, partitions = {}, uid = N,
-- popen = text or nil }. Prints what came of it as JSON.

local loader, scenario = arg[1], dofile(arg[2])
local said, logged, written = {}, {}, {}

local function logger(...)
  logged[#logged + 1] = string.format(...)
end
slurm = {
  SUCCESS = 0, ERROR = -1, FAILURE = -1, NO_VAL = 4294967294, INFINITE = 4294967295,
  ESLURM_ACCESS_DENIED = 2002, ESLURM_INVALID_NODE_COUNT = 2006,
  log_info = logger, log_error = logger, log_debug = logger,
  log_user = function(...) said[#said + 1] = string.format(...) end,
}

-- Fields that a description has; a number that was not given is NO_VAL, a text nil.
local texts = { account = 1, admin_comment = 1, comment = 1, container = 1, default_account = 1,
  default_qos = 1, features = 1, name = 1, partition = 1, qos = 1, script = 1, user_name = 1,
  array_inx = 1 }
local numbers = { min_nodes = 1, max_nodes = 1, num_tasks = 1, het_job_offset = 1, user_id = 1 }

local function description(values, environment)
  return setmetatable({}, {
    __index = function(_, name)
      if name == "environment" then
        return setmetatable({}, { __index = function(_, key)
          if not values.script then
            logger("job_desc->environment only accessible for batch jobs.")
            return nil
          end
          return environment[key]
        end })
      elseif texts[name] then
        return values[name]
      elseif numbers[name] then
        return values[name] or slurm.NO_VAL
      end
    end,
    __newindex = function(_, name, value)
      assert(texts[name] or numbers[name], "unrecognized field " .. name)
      assert(type(value) == (texts[name] and "string" or "number"), "wrong type for " .. name)
      written[name] = value
      values[name] = value ~= "" and value or nil
    end,
  })
end

if scenario.popen then
  io.popen = function(command)
    logger("popen %s", command)
    local file = io.tmpfile()
    file:write(scenario.popen)
    file:seek("set")
    return file
  end
end

local function json(value)
  if type(value) == "table" then
    local parts = {}
    if #value > 0 then
      for _, item in ipairs(value) do
        parts[#parts + 1] = json(item)
      end
      return "[" .. table.concat(parts, ",") .. "]"
    end
    for key, item in pairs(value) do
      parts[#parts + 1] = json(key) .. ":" .. json(item)
    end
    return "{" .. table.concat(parts, ",") .. "}"
  elseif type(value) == "string" then
    return '"' .. value:gsub('[%c"\\]', function(c)
      return string.format("\\u%04x", c:byte())
    end) .. '"'
  end
  return string.format("%.14g", value)
end

local status = dofile(loader)
assert((tonumber(status) or 0) == slurm.SUCCESS, "the loader says that it failed")
local job = description(scenario.job, scenario.env or {})
local called, code
if scenario.record then
  called, code = pcall(slurm_job_modify, job, scenario.record, scenario.partitions, scenario.uid)
else
  called, code = pcall(slurm_job_submit, job, scenario.partitions, scenario.uid)
end
if not called then
  -- What Slurm does: an error in Lua is logged, and the job goes on.
  logger("%s", tostring(code))
  code = slurm.SUCCESS
end
print(json({ code = code, said = said, logged = logged, written = written }))
