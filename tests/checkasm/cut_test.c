/* Minimum cuts beside the least of all assignments: random items, prices and edges, some of them forbidding;
 * and the layouts of random graphs, which are found by them. */
#include <math.h>
#include <string.h>

#include "check.h"
#include "run/layouts.h"
#include "search/cost.h"
#include "search/cut.h"

enum {
    MOST_ITEMS = 9,
    MOST_EDGES = 20,
};

/* ---- Cuts ---- */

/* Whole numbers, so that sums are exact; one in eight is infinite where that is allowed. */
static double random_cost(bool may_forbid) {
    return may_forbid && check_below(8) == 0 ? INFINITY : (double)check_below(10);
}

typedef struct problem {
    size_t count, edge_count;
    double costs[MOST_ITEMS][2];
    we_cut_edge edges[MOST_EDGES];
} problem;

static problem random_problem(void) {
    problem p = {.count = (size_t)check_below(MOST_ITEMS) + 1,
                 .edge_count = (size_t)check_below(MOST_EDGES + 1)};
    for (size_t i = 0; i < p.count; i++) {
        p.costs[i][0] = random_cost(true);
        p.costs[i][1] = random_cost(!isinf(p.costs[i][0]));
    }
    for (size_t i = 0; i < p.edge_count; i++)
        p.edges[i] = (we_cut_edge){(int32_t)check_below((int64_t)p.count),
                                   (int32_t)check_below((int64_t)p.count), random_cost(true)};
    return p;
}

static double cost_of(const problem *p, const bool *second) {
    double cost = 0;
    for (size_t i = 0; i < p->count; i++)
        cost += p->costs[i][second[i]];
    for (size_t i = 0; i < p->edge_count; i++)
        cost += !second[p->edges[i].from] && second[p->edges[i].to] ? p->edges[i].cost : 0;
    return cost;
}

static double least_cost(const problem *p) {
    double least = INFINITY;
    for (uint32_t bits = 0; bits < 1u << p->count; bits++) {
        bool second[MOST_ITEMS];
        for (size_t i = 0; i < p->count; i++)
            second[i] = bits >> i & 1;
        least = fmin(least, cost_of(p, second));
    }
    return least;
}

static void check_cuts(int rounds) {
    for (int round = 0; round < rounds; round++) {
        problem p = random_problem();
        bool second[MOST_ITEMS], solved;
        double least = least_cost(&p);
        CHECK(we_cut_solve(p.count, (const double (*)[2])p.costs, p.edges, p.edge_count, second, &solved,
                           NULL) == WE_OK,
              "no memory");
        CHECK(solved, "round %d took too long", round);
        CHECK(isinf(least) || cost_of(&p, second) == least, "round %d: %g instead of %g", round,
              cost_of(&p, second), least);
    }
}

/* ---- Layouts of random graphs, beside the least of all assignments ---- */

enum {
    MOST_NODES = 7,
    MOST_READS = 3,
    SIDE = 8,
};

/* Node n writes value n + 1, value 0 is the graph's input, the last is its output. */
typedef struct net {
    we_graph graph;
    we_program program;
    we_node nodes[MOST_NODES];
    we_value values[MOST_NODES + 1];
    we_tensor tensors[MOST_NODES + 1];
    we_layout_ways ways[MOST_NODES];
    int32_t reads[MOST_NODES][MOST_READS], writes[MOST_NODES], tensor_of[MOST_NODES + 1], input, output;
    double turning_ms;
} net;

static void make_net(net *net) {
    static const we_layout_role ROLES[] = {WE_LAYOUT_CHOICE, WE_LAYOUT_CHOICE,  WE_LAYOUT_FIRST,
                                           WE_LAYOUT_MOVES,  WE_LAYOUT_FOLLOWS, WE_LAYOUT_REDUCES};
    size_t nodes = 1 + (size_t)check_below(MOST_NODES);
    memset(net, 0, sizeof *net);
    for (size_t v = 0; v <= nodes; v++) {
        net->values[v].kind = v ? WE_VALUE_NODE : WE_VALUE_INPUT;
        net->tensors[v] = (we_tensor){.kind = v ? WE_TENSOR_TEMP : WE_TENSOR_INPUT,
                                      .dtype = WE_F32,
                                      .rank = 4,
                                      .dims = {1, SIDE, SIDE, SIDE},
                                      .count = SIDE * SIDE * SIDE,
                                      .alias_of = -1};
        net->tensor_of[v] = (int32_t)v;
    }
    for (size_t n = 0; n < nodes; n++) {
        we_layout_role role = ROLES[check_below(6)];
        net->ways[n] = (we_layout_ways){.role = role, .ms = {(double)check_below(9), (double)check_below(9)}};
        net->ways[n].reads_plain = check_below(4) == 0;
        net->ways[n].last = check_below(2);
        net->writes[n] = (int32_t)n + 1;
        net->nodes[n] = (we_node){.inputs = net->reads[n], .outputs = &net->writes[n], .output_count = 1};
        net->nodes[n].input_count = role == WE_LAYOUT_CHOICE ? 1 : 1 + (int32_t)check_below(MOST_READS);
        for (int32_t i = 0; i < net->nodes[n].input_count; i++)
            net->reads[n][i] = (int32_t)check_below((int64_t)n + 1);
    }
    net->output = (int32_t)nodes;
    net->graph = (we_graph){.values = net->values,
                            .nodes = net->nodes,
                            .inputs = &net->input,
                            .outputs = &net->output,
                            .value_count = nodes + 1,
                            .node_count = nodes,
                            .input_count = 1,
                            .output_count = 1};
    net->program = (we_program){.tensors = net->tensors, .tensor_count = nodes + 1};
}

/* What the nodes cost if those of `last` run channels last; INFINITY where one cannot. */
static double price_of(const net *net, uint32_t last) {
    double ms = 0;
    for (size_t n = 0; n < net->graph.node_count; n++) {
        const we_layout_ways *ways = &net->ways[n];
        bool is_last = last >> n & 1, follows = ways->role == WE_LAYOUT_FOLLOWS;
        if (is_last && (ways->role == WE_LAYOUT_FIRST || ways->role == WE_LAYOUT_REDUCES))
            return INFINITY;
        for (int32_t i = 0; i < net->nodes[n].input_count && is_last && follows; i++) {
            int32_t value = net->reads[n][i];
            if (value == 0 || !(last >> (value - 1) & 1))
                return INFINITY;
        }
        ms += ways->role == WE_LAYOUT_CHOICE ? ways->ms[is_last] : 0;
    }
    for (int32_t v = 0; v <= (int32_t)net->graph.node_count; v++) {
        bool written_last = v > 0 && (last >> (v - 1) & 1), turned = v == net->output && written_last;
        for (size_t n = 0; n < net->graph.node_count; n++) {
            const we_layout_ways *ways = &net->ways[n];
            bool reads_last = (last >> n & 1) && !(ways->role == WE_LAYOUT_CHOICE && ways->reads_plain);
            for (int32_t i = 0; i < net->nodes[n].input_count && ways->role != WE_LAYOUT_REDUCES; i++)
                turned = turned || (net->reads[n][i] == v && reads_last != written_last);
        }
        ms += turned ? net->turning_ms : 0;
    }
    return ms;
}

/* The least where each choice is as given, whatever the other nodes do; all nodes' where `given` is NULL. */
static double least_price(const net *net, const bool *given) {
    double least = INFINITY;
    for (uint32_t last = 0; last < 1u << net->graph.node_count; last++) {
        bool fits = true;
        for (size_t n = 0; n < net->graph.node_count && given; n++)
            fits = fits && (net->ways[n].role != WE_LAYOUT_CHOICE || given[n] == (last >> n & 1));
        least = fits ? fmin(least, price_of(net, last)) : least;
    }
    return least;
}

static void check_layouts(int rounds) {
    we_parameters parameters = we_parameters_standard();
    we_machine machine = {.threads = 1, .parameters = &parameters};
    for (int round = 0; round < rounds; round++) {
        net net;
        bool last[MOST_NODES] = {0}, better, taken[MOST_NODES];
        make_net(&net);
        parameters.turn = SIDE * SIDE * SIDE * sizeof(float) / (1e6 * (0.5 + (double)check_below(6)));
        net.turning_ms = we_cost_turning(&machine, SIDE * SIDE * SIDE * sizeof(float)) * 1e-6;
        CHECK(we_layouts_assign(&net.graph, &machine, &net.program, net.tensor_of, net.ways, last, &better,
                                NULL) == WE_OK,
              "no memory");
        double least = least_price(&net, NULL), found = least_price(&net, last);
        CHECK(fabs(found - least) < 1e-9, "round %d: %g ms instead of %g", round, found, least);
        for (size_t n = 0; n < net.graph.node_count; n++)
            taken[n] = net.ways[n].last;
        CHECK(better || fabs(least_price(&net, taken) - least) < 1e-9, "round %d: something is better",
              round);
    }
}

int main(int argc, char **argv) {
    check_seed(argc, argv);
    check_cuts(check_count(argc, argv, 3000));
    check_layouts(check_count(argc, argv, 3000));
    return check_result();
}
