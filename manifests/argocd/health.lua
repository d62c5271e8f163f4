-- How Argo CD reads the status of Modelmill's kinds; docs/status.md has the conditions.
local health = { status = "Progressing", message = "the operator has not seen this generation yet" }

if obj.metadata.deletionTimestamp ~= nil then
  health.message = "being deleted"
  return health
end

local status = obj.status
if status == nil or status.conditions == nil or status.observedGeneration ~= obj.metadata.generation then
  return health
end

local found = {}
for _, condition in ipairs(status.conditions) do
  found[condition.type] = condition
end
local headline = found.Ready or found.Succeeded
if headline == nil then
  return health
end

health.message = headline.message
if found.Stalled ~= nil and found.Stalled.status == "True" then
  health.status = "Degraded"
  health.message = found.Stalled.message
elseif found.Reconciling ~= nil and found.Reconciling.status == "True" then
  health.status = "Progressing"
elseif headline.status == "True" then
  health.status = "Healthy"
elseif headline.reason == "Suspended" or headline.reason == "Queued" then
  health.status = "Suspended"
end
return health
