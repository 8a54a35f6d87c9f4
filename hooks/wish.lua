-- wnodes-lrms: how a job says, in Slurm's own fields, that it runs in a machine.
--
-- Text to text, nothing of Slurm is called: the constraint, the administrator's comment, the
-- script's first line, a lease's name. job_submit.lua decides what to do with it. Works in Lua 5.1
-- to 5.4.

local FEATURE = "wnodes"       -- the plain node feature that the prolog's guard looks for
local MARK = "wnodes_image="   -- before the tag, in the job's administrator's comment
local BY = "wnodes_by="         -- before what named the tag, in the same place
local SCRATCH = "wnodes_scratch="  -- before the GiB of a scratch disk, in the same place
local LEASE_MARK = "wnodes_lease="  -- before the lease's id, in the same place
local LEASE = "wnodes-lease-"  -- before the lease's id, in the name of a lease job
local LONGEST_SHEBANG = 255    -- bytes of a script's first line that the kernel reads

-- Refusals travel as raised tables, to tell them from faults. `code` is a Slurm error, or nil.
local function refuse(code, ...)
  error({ code = code, text = string.format(...) })
end

-- A user's text, fit for a log line.
local function shown(text)
  return (tostring(text):sub(1, 100):gsub("%c", "?"))
end

local wish = { FEATURE = FEATURE, refuse = refuse, shown = shown }

-- A constraint, cut at its top level at & and the comma, which Slurm reads as &.
-- Returns the terms, and whether | stands at the top level.
local function split(features)
  local terms, alternatives, depth, start = {}, false, 0, 1
  for at = 1, #features + 1 do
    local char = at > #features and "&" or features:sub(at, at)
    if char == "(" or char == "[" then
      depth = depth + 1
    elseif char == ")" or char == "]" then
      depth = depth - 1
    elseif depth == 0 and char == "|" then
      alternatives = true
    end
    if at > #features or (depth == 0 and (char == "&" or char == ",")) then
      terms[#terms + 1] = features:sub(start, at - 1)
      start = at + 1
    end
  end
  return terms, alternatives
end

-- What a constraint says of machines: the tag it names (or nil), whether the word `wnodes` is in
-- it, and a function that gives the constraint a job in a machine runs with.
function wish.constraint(features)
  features = features or ""
  local tag, named = nil, false
  for word in features:gmatch("[^&|,*()%[%]%s]+") do
    local found = word:match("^vm_(.+)$")
    if found and tag and found ~= tag then
      refuse(nil, "--constraint names two images, %s and %s; a job runs in one",
        shown(tag), shown(found))
    end
    tag = tag or found
    named = named or word == FEATURE
  end
  if not tag and not named and not features:find("|", 1, true) then
    return nil, false, function()
      return features == "" and FEATURE or FEATURE .. "&" .. features
    end
  end

  local terms, alternatives = split(features)
  if tag then
    local plain = not alternatives
    for _, term in ipairs(terms) do
      plain = plain and (term == "vm_" .. tag or not term:find("vm_" .. tag, 1, true))
    end
    if not plain then
      refuse(nil, "--constraint=%s leaves open whether the job runs in a VM: join vm_%s to the"
        .. " rest by & alone, without |, brackets or *", shown(features), shown(tag))
    end
  end
  return tag, named, function()
    if alternatives then
      if features:find("[%(%[]") then
        refuse(nil, "--constraint=%s cannot be joined with the VM's own constraint: use |"
          .. " without brackets, or brackets joined by &", shown(features))
      end
      return FEATURE .. "&(" .. features .. ")"
    end
    local kept = { FEATURE }
    for _, term in ipairs(terms) do
      if term ~= FEATURE and not (tag and term == "vm_" .. tag) and term ~= "" then
        kept[#kept + 1] = term
      end
    end
    return table.concat(kept, "&")
  end
end

-- The tag in an administrator's comment.
function wish.marked(comment)
  return ((" " .. (comment or "")):match("%s" .. MARK .. "(%S+)"))
end

-- The id of a lease in an administrator's comment.
function wish.marked_lease(comment)
  return ((" " .. (comment or "")):match("%s" .. LEASE_MARK .. "(%S+)"))
end

-- The comment with one mark of ours, or none, and the other words that it had.
local function with_mark(comment, mark)
  local words = {}
  for word in (comment or ""):gmatch("%S+") do
    if word:sub(1, #MARK) ~= MARK and word:sub(1, #BY) ~= BY
      and word:sub(1, #SCRATCH) ~= SCRATCH and word:sub(1, #LEASE_MARK) ~= LEASE_MARK then
      words[#words + 1] = word
    end
  end
  words[#words + 1] = mark
  return table.concat(words, " ")
end

-- What named the tag: "environment", "constraint" or "default"; nil if the comment has no such word.
function wish.named_by(comment)
  return ((" " .. (comment or "")):match("%s" .. BY .. "(%S+)"))
end

-- The GiB of a scratch disk in an administrator's comment; nil if it has none.
function wish.scratch(comment)
  return ((" " .. (comment or "")):match("%s" .. SCRATCH .. "(%S+)"))
end

-- The GiB of a scratch disk that a job asks for in its environment; nil if it asks for none.
-- wnodes_lrms/provision.py has the same grammar.
function wish.asked_scratch(environment)
  local size = environment["WNODES_SCRATCH"]
  if not size or size == "" then
    return nil
  end
  if not size:find("^[1-9]%d?%d?%d?%d?$") then
    refuse(nil, "WNODES_SCRATCH=%s: a whole number of GiB is needed", shown(size))
  end
  return size
end

function wish.mark(comment, image, by, scratch)
  return with_mark(comment, MARK .. image .. (by and " " .. BY .. by or "")
    .. (scratch and " " .. SCRATCH .. scratch or ""))
end

function wish.mark_lease(comment, lease)
  return with_mark(comment, LEASE_MARK .. lease)
end

-- The comment of a job that is neither in a machine nor a lease: marks in it are somebody's own.
function wish.unmarked(comment)
  if wish.marked(comment) or wish.marked_lease(comment) then
    return with_mark(comment)
  end
  return comment
end

-- The script with the starter as its interpreter.
function wish.wrapped(script, starter)
  local line, rest = script:match("^([^\n]*)(.*)$")
  if line:find("\r", 1, true) then
    refuse(nil, "the script has DOS line ends, and no VM can run it: convert it (dos2unix)")
  end
  local interpreter = line:match("^#![ \t]*(.-)[ \t]*$")
  if not interpreter or interpreter == "" then
    refuse(nil, "the script's first line must name its interpreter, such as #!/bin/bash")
  end
  if interpreter:sub(1, #starter + 1) == starter .. " " then
    return script -- a job's script, written out by Slurm and submitted again
  end
  line = "#!" .. starter .. " " .. interpreter
  if #line > LONGEST_SHEBANG then
    refuse(nil, "the script's first line is too long: its interpreter may take %d characters",
      LONGEST_SHEBANG - #starter - 3)
  end
  return line .. rest
end

-- The lease's id if a job looks like a lease: the job of a cloud user's machine, that a bait submits.
-- Anybody can write such a job; job_submit.lua knows who may.
function wish.lease(job, named)
  local name = job.name or ""
  if named and job.script and name:sub(1, #LEASE) == LEASE
    and (job.environment["WNODES_LEASE"] or "") ~= "" then
    return (name:sub(#LEASE + 1):match("^[%w-]+$"))
  end
end

-- Whether leases may run as this user; wnodes_lrms/lrms/lease.py has the same rule.
function wish.carries_leases(user, users)
  for _, name in ipairs(users) do
    local stem = name:match("^(.*)%*$")
    if user and (user == name or (stem and user:sub(1, #stem) == stem)) then
      return true
    end
  end
  return false
end

return wish
