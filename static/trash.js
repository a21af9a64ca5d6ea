import { followJobs } from "./jobs.js";

// Once a job has restored images, they are no longer here.
followJobs((ended) => {
  if (ended) location.reload();
});
