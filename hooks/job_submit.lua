-- wnodes-lrms: gives a Slurm job that wishes for a machine the starter as its interpreter.
--
-- A lease, the job that carries a cloud user's machine, gets the lease program as its script.
--
-- A wish is WNODES_IMAGE=<tag> in the environment of a batch job, --constraint=vm_<tag>, or the
-- site's own default by partition, account or QOS (a [[default]] of the configuration). A job
-- without a wish passes untouched. What cannot work is refused here, with one sentence to the user.
--
-- The loader beside slurm.conf runs this file after the site's own script, with this file's folder
-- as its argument; policy.lua in that folder says what the site offers, and is read anew for each
-- submission. The site's functions run first: ours sees the job as the site has shaped it.
--
-- Seen on Slurm 22.05 and minded below:
--   * Debian's plug-in runs Lua 5.1, others 5.3 or 5.4: only what they share is used.
--   * An error raised in Lua lets the job pass unchanged, so every error is caught.
--   * The environment is readable for batch jobs only: WNODES_IMAGE in the shell of a salloc or
--     srun is never seen. Job steps do not come here at all, so srun inside a job is free.
--   * The user reads log_user's text on submission, not on modification.

local folder = ...
local site_submit, site_modify = slurm_job_submit, slurm_job_modify

local wish = assert(loadfile(folder .. "/wish.lua"))()
local refuse, shown = wish.refuse, wish.shown

local BATCH_ONLY = "a VM runs a batch script: submit it with sbatch, not with salloc or srun"

-- policy.lua's table; nil if the hooks were removed while slurmctld kept this file in memory.
-- A table that cannot be read any more leaves the last good one in force.
local last_policy
local function read_policy()
  local chunk, reason = loadfile(folder .. "/policy.lua")
  local read, policy = pcall(chunk or error, reason)
  if read and type(policy) == "table" then
    last_policy = policy
    return policy
  end
  local self = io.open(folder .. "/job_submit.lua")
  if not self then
    return nil
  end
  self:close()
  reason = reason or folder .. "/policy.lua is no table: " .. tostring(policy)
  if not last_policy then
    error(reason, 0)
  end
  slurm.log_error("wnodes: %s; the last table that could be read stays in force", reason)
  return last_policy
end

-- The image that the site gives to a job that names none: the first [[default]] whose every key
-- fits. A job for several partitions may start in any, so they must agree.
local function default_image(policy, partition, account, qos)
  local function of(name)
    for _, rule in ipairs(policy.defaults) do
      if (not rule.partition or rule.partition == name)
        and (not rule.account or rule.account == account)
        and (not rule.qos or rule.qos == qos) then
        return rule.image
      end
    end
  end
  local first, seen
  for name in ((partition or "") .. ","):gmatch("([^,]*),") do
    local image = of(name)
    if seen and image ~= first then
      refuse(nil, "partitions %s run jobs in different VMs: ask for one of them, or name an"
        .. " image with WNODES_IMAGE", shown(partition))
    end
    first, seen = image, true
  end
  return first
end

local function default_partition(partitions)
  for name, partition in pairs(partitions) do
    if partition.flag_default == 1 then
      return name
    end
  end
end

-- The names of a user's groups, as a set. Lua cannot ask for them; id can. Names may hold spaces.
local function groups_of(user)
  local groups = {}
  if user and user:find("^[%w_][%w_.@+\\%-]*$") then
    local pipe = io.popen("PATH=/usr/bin:/bin; timeout 5 id -Gnz -- '" .. user
      .. "' 2>/dev/null | tr '\\0' '\\n'")
    for name in pipe:lines() do
      groups[name] = true
    end
    pipe:close()
  end
  return groups
end

-- Whether the rules let this user have this image; the same rule stands in wnodes_lrms/policy.py.
local function may_use(rules, image, user, account)
  local open, groups = true, nil
  for _, rule in ipairs(rules) do
    if rule.image == image or rule.image == "*" then
      open = false
      if (user and rule.users[user]) or (account and rule.accounts[account]) then
        return true
      end
      if next(rule.groups) then
        groups = groups or groups_of(user)
        for name in pairs(rule.groups) do
          if groups[name] then
            return true
          end
        end
      end
    end
  end
  return open
end

local function known_tags(policy)
  local tags = {}
  for tag in pairs(policy.tags) do
    tags[#tags + 1] = tag
  end
  table.sort(tags)
  return #tags == 0 and "none" or table.concat(tags, ", ", 1, math.min(#tags, 10))
end

local function check_nodes(asked, whose)
  if asked ~= slurm.NO_VAL and asked > 1 then
    refuse(slurm.ESLURM_INVALID_NODE_COUNT,
      "a job in a VM runs on one node, and this one asks for %d%s", asked, whose)
  end
end

-- A lease job gets no starter, image or default of the site's: its machine is a cloud user's. In
-- exchange it can run nothing but the lease program, which needs an order that a bridge has signed:
-- to pass for a lease is no way round the machine that the site gives to a user's jobs. Its mark in
-- the administrator's comment, which only this file and administrators write, is for the accounting.
local function submit_lease(job, lease, policy)
  if not wish.carries_leases(job.user_name, policy.lease_users) then
    refuse(slurm.ESLURM_ACCESS_DENIED, "leases do not run as %s: [cloud] accounts names the users",
      shown(job.user_name))
  end
  job.script = "#!" .. policy.lease .. "\n"
  job.admin_comment = wish.mark_lease(job.admin_comment, lease)
end

-- Slurm's job, made ready for a machine; refuses what cannot work.
local function submit(job, partitions)
  local script = job.script
  local asked = script and job.environment["WNODES_IMAGE"]
  asked = asked ~= "" and asked or nil
  local features = job.features
  local constrained, named, constraint = wish.constraint(features)
  if asked and constrained and asked ~= constrained then
    refuse(nil, "WNODES_IMAGE=%s and --constraint=vm_%s name different images; a job runs in one",
      shown(asked), shown(constrained))
  end

  local policy = read_policy()
  if not policy then
    return
  end
  local lease = not constrained and wish.lease(job, named)
  if lease then
    submit_lease(job, lease, policy)
    return
  end
  local image = asked or constrained
  local whose = ""
  if not image then
    image = default_image(policy, job.partition or default_partition(partitions),
      job.account or job.default_account, job.qos or job.default_qos)
    whose = " (the site runs this job in a VM, by its partition, account or QOS)"
  end
  if not image then
    if named then
      refuse(nil, "--constraint=%s needs an image: set WNODES_IMAGE=<tag>, or use"
        .. " --constraint=vm_<tag>", wish.FEATURE)
    end
    if job.admin_comment ~= wish.unmarked(job.admin_comment) then
      job.admin_comment = wish.unmarked(job.admin_comment)
    end
    return
  end

  if not policy.tags[image] then
    refuse(nil, "no image %s here; there are: %s%s", shown(image), known_tags(policy), whose)
  end
  if not may_use(policy.allow, image, job.user_name, job.account or job.default_account) then
    refuse(slurm.ESLURM_ACCESS_DENIED, "you may not use the image %s%s", image, whose)
  end
  if not script then
    refuse(nil, "%s%s", BATCH_ONLY, whose)
  end
  if job.het_job_offset ~= slurm.NO_VAL then
    refuse(nil, "a heterogeneous job cannot run in a VM%s", whose)
  end
  if job.container then
    refuse(nil, "a job runs in a VM or in a container, not in both%s", whose)
  end
  check_nodes(job.min_nodes, whose)

  -- All is decided before the first change. Where the user left the nodes open, as in -N 1-2, or
  -- sbatch -n 2, the job gets one.
  local scratch = wish.asked_scratch(job.environment)
  local new_script, new_features = wish.wrapped(script, policy.starter), constraint()
  job.script = new_script
  job.features = new_features
  job.admin_comment = wish.mark(job.admin_comment, image,
    asked and "environment" or constrained and "constraint" or "default", scratch)
  job.max_nodes = 1
end

-- `scontrol update`: a job with a machine keeps its image, its feature and its one node; a job
-- without one cannot get it, or slip into a partition that gives one, after its submission. A lease
-- keeps its mark.
local function modify(job, record, partitions, uid)
  local lease = wish.marked_lease(record.admin_comment)
  if lease and job.admin_comment then
    job.admin_comment = wish.mark_lease(job.admin_comment, lease)
  end
  local image, features = wish.marked(record.admin_comment), job.features
  if image then
    if job.admin_comment and not wish.marked(job.admin_comment) then
      job.admin_comment = wish.mark(job.admin_comment, image, wish.named_by(record.admin_comment),
        wish.scratch(record.admin_comment))
    end
    if features then
      local tag, _, constraint = wish.constraint(features)
      if tag and tag ~= image then
        refuse(nil, "the job runs in %s: submit it again for vm_%s", image, shown(tag))
      end
      job.features = constraint()
    end
    check_nodes(job.min_nodes, "")
    check_nodes(job.max_nodes, "")
    return
  end

  if features then
    local tag, named = wish.constraint(features)
    if tag or named then
      refuse(nil, "a VM is asked for at submission: submit the job again")
    end
  end
  if uid ~= 0 and (job.partition or job.account or job.qos) then
    local policy = read_policy()
    local given = policy and default_image(policy,
      job.partition or record.partition or default_partition(partitions),
      job.account or record.account, job.qos or record.qos)
    if given and given ~= default_image(policy, record.partition, record.account, record.qos) then
      refuse(nil, "the site runs such jobs in %s, which is given at submission: submit it again",
        given)
    end
  end
end

-- The site's function, with Slurm's own reading of its result: a fault in it is logged and the job
-- goes on, and what is not a number is success.
local function run_site(what, ...)
  if not what then
    return slurm.SUCCESS
  end
  local good, result = pcall(what, ...)
  if not good then
    slurm.log_error("job_submit.site.lua: %s", tostring(result))
    return slurm.SUCCESS
  end
  return tonumber(result) or slurm.SUCCESS
end

-- Ours, with faults of this file caught: a job that may wish for a machine is refused then, because
-- it would otherwise run outside one; any other passes.
local function run_ours(what, wishes, fallback, ...)
  local good, trouble = pcall(what, ...)
  if good then
    return slurm.SUCCESS
  end
  if type(trouble) == "table" then
    slurm.log_user("%s", "wnodes: " .. trouble.text)
    return trouble.code or fallback
  end
  slurm.log_error("wnodes: %s", tostring(trouble))
  if not wishes(...) then
    return slurm.SUCCESS
  end
  slurm.log_user("%s", "wnodes: VMs cannot be given at the moment; please tell your"
    .. " administrator (the reason is in slurmctld's log)")
  return slurm.ERROR
end

local function submission_wishes(job)
  local features = job.features or ""
  return features:find("vm_", 1, true) or features:find(wish.FEATURE, 1, true)
    or (job.script and job.environment["WNODES_IMAGE"])
end

local function modification_wishes(_, record)
  return wish.marked(record.admin_comment)
end

function slurm_job_submit(job, partitions, uid)
  local code = run_site(site_submit, job, partitions, uid)
  if code ~= slurm.SUCCESS then
    return code
  end
  return run_ours(submit, submission_wishes, slurm.ERROR, job, partitions)
end

function slurm_job_modify(job, record, partitions, uid)
  local code = run_site(site_modify, job, record, partitions, uid)
  if code ~= slurm.SUCCESS then
    return code
  end
  return run_ours(modify, modification_wishes, slurm.ESLURM_ACCESS_DENIED, job, record, partitions,
    uid)
end
