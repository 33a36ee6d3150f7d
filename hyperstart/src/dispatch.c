#include "dispatch.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cgroup.h"
#include "container.h"
#include "control.h"
#include "device_program.h"
#include "job.h"
#include "net.h"
#include "path.h"
#include "pod.h"
#include "power.h"
#include "renew.h"
#include "services.h"
#include "report.h"

static void answer(uint64_t seq, const struct failure *failure)
{
    if (failure->code)
        control_error(seq, failure);
    else
        control_ack(seq, "");
}

/* -- jobs; their argument is the request */

static int interface_work(const void *argument, struct failure *failure)
{
    const struct request *request = argument;
    return request->code == SETUPINTERFACE ? net_setup_interface(&request->interface, failure)
                                           : net_delete_interface(&request->interface, failure);
}

static int routes_work(const void *argument, struct failure *failure)
{
    const struct request *request = argument;
    for (size_t i = 0; i < request->routes.count; i++)
        if (net_setup_route(&request->routes.items[i], failure) < 0)
            return -1;
    return 0;
}

static int services_work(const void *argument, struct failure *failure)
{
    const struct request *request = argument;
    return services_set(request->services.items, request->services.count, failure);
}

static int update_work(const void *argument, struct failure *failure)
{
    const struct request *request = argument;
    if (cgroup_write(request->container, &request->cgroup, failure) < 0)
        return -1;
    if (!request->device_rules.code)
        return 0;
    int program = device_program_load(&request->device_rules);
    int result = cgroup_set_devices(request->container, program, failure);
    if (program >= 0)
        close(program);
    return result;
}

static int pod_work(const void *argument, struct failure *failure)
{
    const struct request *request = argument;
    return pod_setup(&request->pod, failure);
}

static int online_work(const void *argument, struct failure *failure)
{
    const struct request *request = argument;
    return request->cpus ? pod_online_cpus(request->cpus, failure) : pod_online_memory(failure);
}

static void start_job(const struct request *request, job_work work)
{
    job_start(request->seq, work, request, NULL, 0, NULL, NULL);
}

/* Only the mount of a share may block, and a fork takes an emulated CPU some milliseconds. */
static void set_up_pod(const struct request *request)
{
    struct failure failure = {0};
    if (request->pod.share_tag) {
        start_job(request, pod_work);
        return;
    }
    pod_work(request, &failure);
    answer(request->seq, &failure);
}

/* -- what is answered at once */

static int resize(const struct process *process, const struct request *request,
                  struct failure *failure)
{
    struct winsize size = {.ws_row = request->rows, .ws_col = request->cols};
    if (!process->terminal)
        return fail(failure, FAIL_BAD_REQUEST, "process %s has no terminal", process->id);
    if (process->master >= 0 && ioctl(process->master, TIOCSWINSZ, &size) < 0)
        return fail_errno(failure, "resize of the terminal of %s", process->id);
    return 0;
}

static int signal_process(const struct process *process, int signal, struct failure *failure)
{
    if (kill(process->pid, signal) < 0)
        return fail_errno(failure, "signal %d to process %s", signal, process->id);
    return 0;
}

static void with_process(const struct request *request, struct container *container)
{
    struct failure failure = {0};
    struct process *process = process_find(container, request->process);
    if (!process)
        fail(&failure, FAIL_NO_SUCH, "no process %s in container %s", request->process,
             container->id);
    else if (request->code == WINSIZE)
        resize(process, request, &failure);
    else
        signal_process(process, request->signal, &failure);
    answer(request->seq, &failure);
}

static void freeze(const struct request *request, struct container *container)
{
    struct failure failure = {0};
    if (cgroup_freeze(container->id, request->frozen, &failure) == 0)
        container->frozen = request->frozen;
    answer(request->seq, &failure);
}

static void with_container(const struct request *request, struct container *container)
{
    switch (request->code) {
    case EXECCMD:
        container_exec(request->seq, container, &request->exec);
        break;
    case STARTCONTAINER:
        container_start(request->seq, container);
        break;
    case RENEWCONTAINER:
        container_renew(request->seq, container, &request->renewal);
        break;
    case REMOVECONTAINER:
        container_remove(request->seq, container, NULL);
        break;
    case KILLCONTAINER:
        cgroup_kill(container->id, request->signal);
        control_ack(request->seq, "");
        break;
    case UPDATECONTAINER:
        start_job(request, update_work);
        break;
    case FREEZECONTAINER:
        freeze(request, container);
        break;
    case LISTPROCESSES:
        report_processes(request->seq, request->container);
        break;
    case STATS:
        report_stats(request->seq, container);
        break;
    default: /* WINSIZE, SIGNALPROCESS */
        with_process(request, container);
    }
}

void dispatch(const struct request *request)
{
    struct failure failure = {0};
    struct container *container;
    switch (request->code) {
    case PING:
        control_ack(request->seq, "");
        break;
    case STARTPOD:
    case SETTIME:
        set_up_pod(request);
        break;
    case ONLINECPUMEM:
        start_job(request, online_work);
        break;
    case SETUPINTERFACE:
    case DELETEINTERFACE:
        start_job(request, interface_work);
        break;
    case SETUPROUTE:
        start_job(request, routes_work);
        break;
    case SETSERVICES:
        start_job(request, services_work);
        break;
    case DESTROYPOD:
        power_down(request->seq);
        break;
    case NEWCONTAINER:
        container_new(request->seq, &request->new_container);
        break;
    default:
        container = container_find(request->container);
        if (container) {
            with_container(request, container);
            break;
        }
        fail(&failure, FAIL_NO_SUCH, "no container %s", request->container);
        control_error(request->seq, &failure);
    }
}
